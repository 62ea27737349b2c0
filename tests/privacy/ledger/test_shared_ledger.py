"""Several runs share a ledger: at the same time, and without losing a round."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import subprocess
import sys

import pytest

from tfl_research import privacy
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.accounting.events.record_event import RecordEvent
from tfl_research.privacy.accounting.events.search_event import (
    HyperparameterSearchEvent,
)
from tfl_research.privacy.ledger import hash_chain, head_file
from tfl_research.privacy.ledger.lines.entries import (
    Round,
)
from tfl_research.privacy.ledger.shared.shared_ledger import SharedLedger

# Not sampled, so that ε has a closed form and costs nothing.
EVENT = GaussianEvent("none", 8.0, 1.0, 200, 10.0, "add_or_remove_one")
OTHER = dataclasses.replace(EVENT, noise_multiplier=12.5)
SEARCH = HyperparameterSearchEvent(EVENT, 4.0)
PEOPLE = privacy.Population.of([f"client {i}" for i in range(200)])
FIRST, SECOND = "0123456789abcdef", "fedcba9876543210"
DELTA = 1e-4


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shared.jsonl"


def opened(path, run, **options):
    return SharedLedger(path, run, PEOPLE, **options)


def fill(path, rounds):
    """Lets runs record rounds in turn: [(run, event), ...]."""
    numbers = {}
    for run, event in rounds:
        numbers[run] = numbers.get(run, 0) + 1
        with opened(path, run) as ledger:
            ledger.record(numbers[run], event)
    return path.read_bytes().splitlines()


def test_a_line_names_run_population_round_and_event(path):
    first, second = map(json.loads, fill(path, [(FIRST, EVENT), (SECOND, OTHER)]))
    assert first.pop("hash") == second["previous"]
    assert first == {
        "run": FIRST,
        "population": {"clients": 200, "fingerprint": PEOPLE.fingerprint},
        "round": 1,
        "event": EVENT.to_dict(),
        "previous": "0" * 64,
    }
    assert (second["run"], second["round"]) == (SECOND, 1)


def test_two_open_runs_interleave_and_see_each_other(path):
    with opened(path, FIRST) as first, opened(path, SECOND) as second:
        for number in (1, 2, 3):
            first.record(number, EVENT)
            second.record(number, OTHER)
        first.record(4, EVENT)
        assert len(first) == 7
        second.epsilon_after(3, OTHER, DELTA)
        assert second.spent == first.spent
        assert [(one.run, one.groups) for one in first.spent] == [
            (FIRST, [(EVENT, 4)]),
            (SECOND, [(OTHER, 3)]),
        ]


def test_is_synced_before_record_returns(path, monkeypatch):
    synced = []
    with opened(path, FIRST) as ledger:
        fsync = os.fsync
        monkeypatch.setattr(
            os, "fsync", lambda fd: (synced.append(path.read_bytes()), fsync(fd))
        )
        ledger.record(1, EVENT)
    assert synced == [path.read_bytes()]


def test_epsilon_is_that_of_all_rounds_composed(path):
    fill(path, [(FIRST, EVENT)] * 5 + [(SECOND, OTHER)] * 3)
    with opened(path, SECOND) as ledger:
        expected = privacy.composed_epsilon([(EVENT, 5), (OTHER, 20)], DELTA)
        assert ledger.epsilon_after(20, OTHER, DELTA) == pytest.approx(expected)
        # Rounds that are recorded count, whatever is asked.
        done = privacy.composed_epsilon([(EVENT, 5), (OTHER, 3)], DELTA)
        assert ledger.epsilon_after(1, OTHER, DELTA) == pytest.approx(done)
        assert ledger.epsilon_after(0, OTHER, DELTA) == pytest.approx(done)
        by_rdp = privacy.composed_epsilon([(EVENT, 5), (OTHER, 20)], DELTA, "rdp")
        assert ledger.epsilon_after(20, OTHER, DELTA, "rdp") == pytest.approx(by_rdp)


def test_equal_rounds_of_two_runs_are_one_longer_run(path):
    fill(path, [(FIRST, EVENT), (SECOND, EVENT), (FIRST, EVENT)])
    curve = EVENT.epsilon_curve(10, DELTA, "pld")
    with opened(path, SECOND) as ledger:
        assert ledger.epsilon_after(8, EVENT, DELTA) == pytest.approx(curve[9])


def test_runs_of_a_mechanism_over_all_rounds_are_not_one_longer_run(path):
    fill(path, [(FIRST, SEARCH)] * 3 + [(SECOND, SEARCH)] * 2)
    with opened(path, SECOND) as ledger:
        found = ledger.epsilon_after(4, SEARCH, DELTA)
        expected = privacy.composed_epsilon([(SEARCH, 3), (SEARCH, 4)], DELTA)
        assert found == pytest.approx(expected)
        assert found != pytest.approx(privacy.composed_epsilon([(SEARCH, 7)], DELTA))
        with pytest.raises(ValueError, match="cannot begin or end in mid-run"):
            ledger.record(3, EVENT)


def test_repeats_are_free_and_others_are_refused(path):
    lines = fill(path, [(FIRST, EVENT), (SECOND, OTHER), (FIRST, EVENT)])
    with opened(path, FIRST) as ledger:
        ledger.record(1, EVENT)
        ledger.record(2, EVENT)
        with pytest.raises(ValueError, match=f"run {FIRST}, has round 2 as"):
            ledger.record(2, OTHER)
        with pytest.raises(ValueError, match="round 4 cannot be recorded next"):
            ledger.record(4, EVENT)
    assert path.read_bytes().splitlines() == lines


def test_another_population_is_refused(path):
    fill(path, [(FIRST, EVENT)])
    fewer = privacy.Population.of(["a", "b"])
    with pytest.raises(ValueError, match=r"another population \(of 200, .* has 2,"):
        SharedLedger(path, SECOND, fewer)


def test_another_population_is_refused_by_a_run_that_was_there_first(path):
    renamed = privacy.Population.of([f"client {i}" for i in range(1, 201)])
    with SharedLedger(path, FIRST, renamed) as first, opened(path, SECOND) as second:
        second.record(1, EVENT)
        with pytest.raises(ValueError, match="is about another population"):
            first.record(1, EVENT)


def test_populations_are_their_ids_in_any_order():
    assert privacy.Population.of(["b", "a"]) == privacy.Population.of(("a", "b"))
    # Ids that only look the same when they are joined.
    assert privacy.Population.of(["a,b"]) != privacy.Population.of(["a", "b"])
    assert privacy.Population.of(['a","b']) != privacy.Population.of(["a", "b"])
    for ids in ([], ["a", "a"]):
        with pytest.raises(ValueError, match="distinct and at least one"):
            privacy.Population.of(ids)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (
            privacy.PureEvent(0.5, "edges"),
            "neighbouring_relation 'add_or_remove_one', but this run has 'edges'",
        ),
        (
            RecordEvent(1.0, 8.0, 4, 1, (("a", 90),)),
            "unit 'client', but this run has 'record'",
        ),
    ],
)
def test_rounds_that_cannot_be_composed_are_refused(path, event, message):
    fill(path, [(FIRST, EVENT)])
    with opened(path, SECOND) as ledger:
        for check in (ledger.check_fits, lambda e: ledger.record(1, e)):
            with pytest.raises(ValueError, match=message):
                check(event)
        assert len(ledger) == 1


def test_the_budget_is_of_all_runs(path):
    curve = EVENT.epsilon_curve(20, DELTA, "pld")
    # Ten rounds fit, eleven do not.
    budget = (curve[9] + curve[10]) / 2
    asked = (EVENT, DELTA, "pld", budget)
    fill(path, [(FIRST, EVENT)] * 6)
    with opened(path, SECOND) as ledger:
        done = 0
        while not ledger.would_exceed(done + 1, *asked):
            done += 1
            ledger.charge(done, *asked)
        assert done == 4
        with pytest.raises(privacy.BudgetExceededError, match=r"round 5 would put"):
            ledger.charge(5, *asked)
        # What is there already is free, whatever the budget.
        ledger.charge(4, *asked)
        assert len(ledger) == 10


def test_a_budget_that_is_met_exactly_is_not_exceeded(path):
    fill(path, [(FIRST, EVENT)] * 2)
    budget = privacy.composed_epsilon([(EVENT, 3)], DELTA)
    with opened(path, SECOND) as ledger:
        ledger.charge(1, EVENT, DELTA, None, budget)
        assert ledger.would_exceed(2, EVENT, DELTA, None, budget)
        # What was found at one δ says nothing at another.
        assert ledger.would_exceed(1, EVENT, DELTA / 10, None, budget)
        assert not ledger.would_exceed(1, EVENT, DELTA, None, budget)


def test_the_budget_holds_when_another_run_is_faster(path):
    curve = EVENT.epsilon_curve(2, DELTA, "pld")
    budget = (curve[0] + curve[1]) / 2
    asked = (EVENT, DELTA, None, budget)
    with opened(path, FIRST) as first, opened(path, SECOND) as second:
        assert not first.would_exceed(1, *asked)
        assert not second.would_exceed(1, *asked)
        second.charge(1, *asked)
        with pytest.raises(privacy.BudgetExceededError):
            first.charge(1, *asked)
        assert first.would_exceed(1, *asked)
        assert len(path.read_bytes().splitlines()) == 1


def test_most_checks_of_a_budget_compose_nothing(path, monkeypatch):
    from tfl_research.privacy.accounting import totals

    composed = []
    compose = totals.composed_total
    monkeypatch.setattr(
        totals,
        "composed_total",
        lambda groups, *rest: (composed.append(groups), compose(groups, *rest))[1],
    )
    fill(path, [(FIRST, OTHER)])
    asked = (EVENT, DELTA, "pld", 50.0)
    with opened(path, SECOND) as ledger:
        for number in range(1, 61):
            assert not ledger.would_exceed(number, *asked)
            ledger.charge(number, *asked)
    assert len(composed) == 1


def test_a_torn_last_line_is_dropped_by_the_next_writer(path):
    lines = fill(path, [(FIRST, EVENT), (SECOND, EVENT)])
    whole = path.read_bytes()
    with opened(path, FIRST) as first:
        # Another run is killed in the middle of its write.
        with open(path, "ab") as file:
            file.write(lines[1][:50])
        # Reading leaves what may still be being written.
        assert first.epsilon_after(1, EVENT, DELTA) > 0
        assert path.read_bytes() == whole + lines[1][:50]
        with pytest.warns(UserWarning, match=r"shared\.jsonl: dropped line 3"):
            first.record(2, EVENT)
    assert len(path.read_bytes().splitlines()) == 3
    with opened(path, SECOND) as ledger:
        assert len(ledger) == 3


def swapped(lines):
    lines[0], lines[1] = lines[1], lines[0]


def lost(lines):
    del lines[1]


def edited(lines):
    lines[1] = lines[1].replace(b'"noise_multiplier":12.5', b'"noise_multiplier":92.5')


def edited_last(lines):
    lines[2] = lines[2].replace(FIRST.encode(), b"0" * 16)


def inserted(lines):
    lines.insert(2, lines[0])


@pytest.mark.parametrize(
    ("change", "line", "reason"),
    [
        (swapped, 1, "does not follow"),
        (lost, 2, "does not follow"),
        (edited, 2, "was edited"),
        (edited_last, 3, "was edited"),
        (inserted, 3, "does not follow"),
    ],
)
def test_damage_names_file_and_line(path, change, line, reason):
    lines = fill(path, [(FIRST, EVENT), (SECOND, OTHER), (FIRST, EVENT)])
    change(lines)
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(ValueError, match=rf"shared\.jsonl, line {line}: {reason}"):
        opened(path, FIRST)


def line_of(**changes):
    fields = {
        "run": FIRST,
        "population": dataclasses.asdict(PEOPLE),
        "round": 1,
        "event": EVENT.to_dict(),
        **changes,
    }
    return hash_chain.encode(fields, hash_chain.NO_LINE_HASH)[0] + b"\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run": "short"}, "not a ledger line"),
        ({"run": 7}, "not a ledger line"),
        ({"population": {"clients": 200}}, "not a ledger line"),
        ({"population": "all"}, "not a ledger line"),
        ({"population": {"clients": "x", "fingerprint": "0" * 64}}, "not a ledger"),
        ({"event": None}, "not a ledger line"),
        ({"round": 2}, "run 0123456789abcdef: is round 2, expected round "),
        ({"note": "extra"}, "not a ledger line"),
    ],
)
def test_impossible_lines_are_refused(path, changes, message):
    path.write_bytes(line_of(**changes))
    with pytest.raises(ValueError, match=rf"shared\.jsonl, line 1: {message}"):
        opened(path, FIRST)


def test_lines_cut_off_the_end_are_found_while_it_is_open(path):
    lines = fill(path, [(FIRST, EVENT)] * 3)
    with opened(path, FIRST) as ledger:
        path.write_bytes(lines[0] + b"\n")
        with pytest.raises(ValueError, match="line 3: is gone; the file became short"):
            ledger.record(4, EVENT)


def test_lines_cut_off_the_end_are_found_by_the_runs_own_ledger(path):
    lines = fill(path, [(SECOND, OTHER), (FIRST, EVENT), (FIRST, EVENT)])
    opened(path, FIRST, recorded=[Round(1, EVENT), Round(2, EVENT)]).close()
    path.write_bytes(b"\n".join(lines[:2]) + b"\n")
    with pytest.raises(ValueError, match=r"but had 3: .* \(noted in .*\.head\)"):
        opened(path, FIRST)
    head_file.path_of(path).unlink()
    # The shared ledger is written first: one round more there is what a kill leaves.
    opened(path, FIRST, recorded=[]).close()
    with pytest.raises(ValueError, match=r"has 1 lines of this run .* has 2: lines"):
        opened(path, FIRST, recorded=[Round(1, EVENT), Round(2, EVENT)])
    with pytest.raises(ValueError, match=r"has Round\(round=1, .* of this run"):
        opened(path, FIRST, recorded=[Round(1, OTHER)])
    path.unlink()
    with pytest.raises(ValueError, match=r"has 0 lines of this run .* has 2: lines"):
        opened(path, FIRST, recorded=[Round(1, EVENT), Round(2, EVENT)])


def test_lines_cut_off_the_end_are_found_by_a_position(path):
    lines = fill(path, [(FIRST, EVENT), (SECOND, OTHER), (SECOND, OTHER)])
    with opened(path, FIRST) as ledger:
        position = json.loads(json.dumps(ledger.position))
        ledger.check_position(position)
    path.write_bytes(b"\n".join(lines[:2]) + b"\n")
    head_file.path_of(path).unlink()
    shorter = "has 2 lines, but had 3"
    with opened(path, FIRST) as ledger, pytest.raises(ValueError, match=shorter):
        ledger.check_position(position)


def test_a_locked_file_is_waited_for_with_a_message(path, monkeypatch):
    monkeypatch.setattr(hash_chain, "_WARN_SECONDS", 0.02)
    monkeypatch.setattr(hash_chain, "_PATIENCE_SECONDS", 0.1)
    says = pytest.warns(UserWarning, match=r"waiting for .*shared\.jsonl")
    gives_up = pytest.raises(ValueError, match=r"was locked .* for 0\.1 s")
    with opened(path, FIRST) as ledger:
        with open(path, "ab") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with says, gives_up:
                ledger.record(1, EVENT)
        ledger.record(1, EVENT)


def test_a_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(ValueError, match=r"cannot open .*no/ledger.*No such file"):
        opened(tmp_path / "no" / "ledger", FIRST)
    with pytest.raises(ValueError, match="run must be 16 hexadecimal digits"):
        opened(tmp_path / "ledger", "run 1")


def test_run_ids_stay_with_their_folder(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    first, second = map(privacy.run_id, folders)
    assert first != second
    assert len(first) == 16
    assert privacy.run_id(folders[0]) == first
    (folders[0] / "run_id").write_text("torn")
    with pytest.raises(ValueError, match="run_id is damaged"):
        privacy.run_id(folders[0])


_WRITER = """
import sys, time
from tfl_research import privacy
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
path, run, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
event = GaussianEvent("none", 8.0, 1.0, 200, 10.0, "add_or_remove_one")
people = privacy.Population.of([f"client {i}" for i in range(200)])
with privacy.SharedLedger(path, run, people) as ledger:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(1, rounds + 1):
        ledger.record(number, event)
        time.sleep(0.005)  # A very short round.
assert "tensorflow" not in sys.modules
"""


def test_two_processes_append_at_the_same_time(path):
    rounds = 100
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), run, str(rounds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for run in (FIRST, SECOND)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    with opened(path, FIRST) as ledger:
        assert {one.run: one.groups for one in ledger.spent} == {
            FIRST: [(EVENT, rounds)],
            SECOND: [(EVENT, rounds)],
        }
    order = [json.loads(line)["run"] for line in path.read_bytes().splitlines()]
    # They took turns: neither held the file for its whole run.
    assert order != sorted(order)
    assert order != sorted(order, reverse=True)


_HALF_A_LINE = """
import os, sys
from tfl_research.privacy.ledger.hash_chain import HashChain
chain = HashChain(sys.argv[1])
with chain.locked():
    os.write(chain.descriptor, b'{"run":"0123456789abcdef","popul')
    print("ready", flush=True)
    sys.stdin.readline()
"""


def test_a_writer_killed_in_the_middle_of_a_line_leaves_lock_and_line(path):
    lines = fill(path, [(FIRST, EVENT)])
    command = [sys.executable, "-c", _HALF_A_LINE, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout.readline() == "ready\n"
        assert not path.read_bytes().endswith(b"\n")
        writer.kill()
    with pytest.warns(UserWarning, match=r"dropped line 2, which was cut off"):
        ledger = opened(path, SECOND)
    with ledger:
        ledger.record(1, OTHER)
    after = path.read_bytes().splitlines()
    assert after[:1] == lines
    assert len(after) == 2
