"""scripts/privacy_ledger on files that are no ledgers, and at its limits."""

from __future__ import annotations

import json

import pytest

from tfl_research import privacy
from tfl_research.privacy.accounting.composition import composed_epsilon
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.accounting.events.record_event import RecordEvent
from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.privacy.ledger import hash_chain

EVENT = GaussianEvent("none", 20.0, 1.0, 900, 30.0, "add_or_remove_one")
SELECTION = privacy.PureEvent(0.5, "add_or_remove_one")
RUN = "0123456789abcdef"
PEOPLE = privacy.Population.of(map(str, range(900)))


def shared(path, rounds=3, event=EVENT, people=PEOPLE):
    with privacy.SharedLedger(path, RUN, people) as ledger:
        for number in range(1, rounds + 1):
            ledger.record(number, event)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000 + b"\n",
        b'{"run":' + b"[" * 100_000 + b"\n",
        b'{"run":NaN,"previous":"' + b"0" * 64 + b'","hash":""}\n',
        bytes(range(128, 256)) * 10_000 + b"\n",
        b'{"run":"' + b"x" * 10_000_000 + b"\n",
        b"1\n",
    ],
    ids=["deep", "deep_run", "nan", "binary", "long", "number"],
)
@pytest.mark.parametrize("command", ["show", "verify", "budget"])
def test_other_files_are_refused_in_one_short_line(call, tmp_path, command, content):
    path = tmp_path / "f"
    path.write_bytes(content)
    budget = ["--epsilon=3", "--delta=1e-5"] if command == "budget" else []
    code, out, err = call(command, path, *budget)
    assert (code, out) == (1, "")
    assert f"{path}, line 1: not a ledger line" in err
    assert err.count("\n") == 1
    assert len(err) < 400
    assert path.read_bytes() == content


def test_a_budget_does_not_touch_the_end_of_a_runs_own_ledger(call, tmp_path):
    path = tmp_path / "ledger.jsonl"
    with privacy.Ledger(path, privacy.RunIdentity(RUN, 7)) as ledger:
        ledger.record(1, EVENT)
    # As if the run were writing a line.
    content = path.read_bytes() + b'{"round":2,"ev'
    path.write_bytes(content)
    code, _, err = call("budget", path, "--epsilon=3", "--delta=1e-5")
    assert (code, path.read_bytes()) == (2, content)
    assert "one run's own ledger" in err


def test_a_damaged_ledger_has_the_same_code_in_every_command(call, tmp_path):
    path = shared(tmp_path / "shared.jsonl")
    path.write_bytes(path.read_bytes().replace(b"20.0", b"90.0"))
    for command in (["show"], ["verify"], ["budget", "--epsilon=3", "--delta=1e-5"]):
        code, _, err = call(command[0], path, *command[1:])
        assert code == 1
        assert "line 1: was edited" in err


def test_a_cut_off_line_is_said_in_lines_of_the_command(call, tmp_path):
    path = shared(tmp_path / "shared.jsonl")
    with open(path, "ab") as file:
        file.write(b'{"run":"')
    code, _, err = call("budget", path, "--epsilon=3", "--delta=1e-5")
    assert code == 0
    assert "dropped line 4" in err
    assert all(line.startswith("privacy_ledger: ") for line in err.splitlines())


def test_a_budget_below_what_is_spent_says_so(call, tmp_path):
    path = shared(tmp_path / "shared.jsonl")
    spent = composed_epsilon([(EVENT, 3)], 1e-5)
    code, out, _ = call("budget", path, "--epsilon=0.1", "--delta=1e-5")
    assert code == 0
    assert (
        f"{rounded_up(spent - 0.1)} above the budget: no run can charge a further round"
    ) in out


def test_releases_are_no_rounds_in_a_plan(call, tmp_path):
    path = shared(tmp_path / "shared.jsonl")
    with privacy.SharedLedger(path, RUN, PEOPLE) as ledger:
        ledger.release("selection", 3, SELECTION, 1e-5, None, None)
    code, out, _ = call("plan", f"--event_of={path}", f"--ledger={path}", "--rounds=4")
    assert code == 0
    counts = [row.split()[-2] for row in out.splitlines() if "spent before" in row]
    assert counts == ["3"]
    assert [row.split()[-2] for row in out.splitlines() if "together " in row] == ["7"]


def test_the_default_delta_of_a_clients_records(call, tmp_path):
    # The rounds of a client's ledger do not have its number of records.
    event = RecordEvent(1.0, 10.0, 1, 1, (("a", 500),)).of_client(0)
    people = privacy.Population(500, "0" * 64)
    path = shared(tmp_path / "a.jsonl", event=event, people=people)
    code, out, _ = call("plan", f"--event_of={path}", "--rounds=4")
    assert code == 0
    assert f"δ={rounded_up(privacy.default_delta(500))}" in out


@pytest.mark.parametrize("delta", ["1e-306", "1e-320", "5e-324"])
def test_the_smallest_deltas(call, tmp_path, delta):
    path = shared(tmp_path / "shared.jsonl")
    code, out, _ = call("show", path, "--delta", delta)
    assert code == 0
    expected = composed_epsilon([(EVENT, 3)], float(delta))
    assert out.splitlines()[2].split()[-1] == rounded_up(expected)


def test_a_release_is_not_there_twice(call, tmp_path):
    path = tmp_path / "ledger.jsonl"
    lines = [{"round": 1, "event": EVENT.to_dict()}]
    lines += 2 * [{"release": "selection", "round": 1, "event": SELECTION.to_dict()}]
    text, last = b"", hash_chain.NO_LINE_HASH
    for fields in lines:
        line, last = hash_chain.encode(json.loads(json.dumps(fields)), last)
        text += line + b"\n"
    path.write_bytes(text)
    code, _, err = call("show", path)
    assert code == 1
    assert "line 3: has the release 'selection' after round 1 a second time" in err


def test_the_order_of_ledgers_does_not_matter(call, tmp_path):
    smaller = GaussianEvent("none", 20.0, 1.0, 90, 30.0, "add_or_remove_one")
    for name, event in (("first", EVENT), ("second", smaller)):
        (tmp_path / name).mkdir()
        with privacy.Ledger(tmp_path / name / "ledger.jsonl") as ledger:
            ledger.record(1, event)
    folders = tmp_path / "first", tmp_path / "second"
    tables = []
    for order in (folders, folders[::-1]):
        code, out, _ = call("show", *order)
        assert code == 0
        tables.append(next(x for x in out.splitlines() if x.startswith("all")))
        # The larger population decides the default δ.
        assert f"δ={rounded_up(privacy.default_delta(900))}" in out
    assert tables[0] == tables[1]
