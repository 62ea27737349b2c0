"""Record-level runs share a ledger for each client."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math

import numpy as np
import pytest

from tfl_research import privacy
from tfl_research.cli import privacy_ledger as ledger_cli
from tfl_research.privacy.accounting.losses import gaussian
from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.privacy.ledger import head_file
from tfl_research.privacy.ledger.clients.client_files import ledger_name
from tfl_research.privacy.ledger.clients.other_clients import beside_lines
from tfl_research.privacy.ledger.lines.entries import (
    Round,
)

# Every record in every step for the first two, so that ε has a closed form.
CLIENTS = (("a/b", 20), ("Bob's", 20), ("empty", 0), ("many", 400))
EVENT = privacy.RecordEvent(30.0, 20.0, 4, 1, CLIENTS)
OTHER = dataclasses.replace(EVENT, noise_multiplier=50.0)
DELTAS = (1e-3, 1e-5, 1e-3, 1e-4)
FIRST, SECOND = "0123456789abcdef", "fedcba9876543210"


def opened(folder, run, event=EVENT, recorded=()):
    return privacy.ClientLedgers(folder, run, event, DELTAS, recorded)


@pytest.fixture
def folder(tmp_path):
    """Two runs: 3 rounds of EVENT and 5 of OTHER."""
    folder = tmp_path / "ledgers"
    for run, event, rounds in ((FIRST, EVENT, 3), (SECOND, OTHER, 5)):
        with opened(folder, run, event) as ledgers:
            for number in range(1, rounds + 1):
                ledgers.record(number, event)
    return folder


def rows(folder, name):
    text = (folder / ledger_name(name)).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@contextlib.contextmanager
def account_in(root):
    """A run's account in root/run, with the ledgers of root/ledgers."""
    (root / "run").mkdir(exist_ok=True)
    with privacy.Ledger(root / "run" / "ledger.jsonl") as own:
        run = privacy.run_id(root / "run")
        with opened(root / "ledgers", run, recorded=own.entries) as shared:
            plan = privacy.RecordLevelPlan(EVENT, 1.0, DELTAS, "pld", rounds=4)
            yield privacy.RecordAccount(own, plan, shared)


def gaussian_epsilon(groups, delta):
    """Of steps without sampling: [(z, steps)], in closed form."""
    mu = math.sqrt(sum(steps / z**2 for z, steps in groups))
    return gaussian.epsilons(np.array([mu]), delta)[0]


def test_every_client_with_records_has_a_ledger_of_its_own(folder):
    assert sorted(path.name for path in folder.glob("*.jsonl")) == [
        "Bob%27s.jsonl",
        "a%2Fb.jsonl",
        "many.jsonl",
    ]
    for index, (name, records) in enumerate(CLIENTS):
        if records == 0:
            continue
        lines = rows(folder, name)
        assert [line["round"] for line in lines] == [1, 2, 3, 1, 2, 3, 4, 5]
        assert {line["population"]["clients"] for line in lines} == {records}
        assert [privacy.event_from_dict(line["event"]) for line in lines] == [
            *[EVENT.of_client(index)] * 3,
            *[OTHER.of_client(index)] * 5,
        ]
    prints = {
        rows(folder, name)[0]["population"]["fingerprint"]
        for name in ("a/b", "Bob's", "many")
    }
    assert len(prints) == 3


def test_totals_are_of_all_runs_at_each_clients_delta(folder):
    with opened(folder, FIRST) as ledgers:
        # One round more of this run, which are 4 steps: 16 and 20 in all.
        found = ledgers.client_epsilons(4, EVENT)
        assert list(found) == ["a/b", "Bob's", "many"]
        for name, delta in (("a/b", 1e-3), ("Bob's", 1e-5)):
            expected = gaussian_epsilon([(30.0, 16), (50.0, 20)], delta)
            assert found[name] == pytest.approx(expected, rel=1e-6)
        assert found["many"] < found["a/b"] < found["Bob's"]
        assert ledgers.epsilon_after(4, EVENT, 0.1) == found["Bob's"]
        assert ledgers.runs_and_rounds == (2, 8)


def rounds_of(event, rounds):
    """The entries of a run's own ledger with so many rounds."""
    return [Round(number, event) for number in range(1, rounds + 1)]


def test_different_settings_compose_by_privacy_loss_distributions():
    """Sampled and not: at most what Rényi divergences give, at least either alone."""
    many = [(EVENT.of_client(3), 30), (OTHER.of_client(3), 50)]
    by_pld = privacy.composed_epsilon(many, 1e-5)
    assert by_pld < privacy.composed_epsilon(many, 1e-5, "rdp")
    assert by_pld > max(privacy.composed_epsilon([one], 1e-5) for one in many)
    # Equal settings in two events are one longer run.
    renamed = dataclasses.replace(EVENT.of_client(3), clients=(("other", 400),))
    twice = [(EVENT.of_client(3), 10), (renamed, 20)]
    assert privacy.composed_epsilon(twice, 1e-5) == pytest.approx(
        EVENT.of_client(3).epsilon(30, 1e-5, "pld"), rel=1e-6
    )
    none = EVENT.of_client(2)
    assert none.epsilon(7, 1e-5, "pld") == 0


def test_the_budget_is_each_clients_over_all_runs(folder):
    totals = [
        gaussian_epsilon([(30.0, 12 + 4 * more), (50.0, 20)], 1e-5) for more in range(4)
    ]
    budget = (totals[2] + totals[3]) / 2
    asked = (EVENT, 0.5, None, budget)
    with opened(folder, FIRST) as ledgers:
        for number in (4, 5):
            assert not ledgers.would_exceed(number, *asked)
            ledgers.charge(number, *asked)
        assert ledgers.would_exceed(6, *asked)
        with pytest.raises(privacy.BudgetExceededError, match="round 6 would put ε"):
            ledgers.charge(6, *asked)
        # In none, also of those that have something left.
        assert {len(rows(folder, name)) for name in ("a/b", "Bob's", "many")} == {10}
        ledgers.charge(5, *asked)
        assert len(rows(folder, "many")) == 10


def test_a_lost_tail_is_found_by_the_runs_own_ledger_and_by_positions(folder):
    with opened(folder, FIRST, recorded=rounds_of(EVENT, 3)) as ledgers:
        position = json.loads(json.dumps(ledgers.position))
        ledgers.check_position(position)
    assert set(position) == {"a/b", "Bob's", "many"}
    path = folder / "many.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    with pytest.raises(ValueError, match=r"had 8: .* \(noted in .*many\.jsonl\.head"):
        opened(folder, FIRST)
    head_file.path_of(path).unlink()
    with pytest.raises(ValueError, match=r"many\.jsonl has 2 lines of this run"):
        opened(folder, FIRST, recorded=rounds_of(EVENT, 3))
    shorter = r"many\.jsonl has 2 lines, but had 8"
    with opened(folder, FIRST) as ledgers, pytest.raises(ValueError, match=shorter):
        ledgers.check_position(position)


def test_a_client_whose_records_became_more_is_another_population(folder):
    grown = dataclasses.replace(EVENT, clients=(*CLIENTS[:3], ("many", 401)))
    with pytest.raises(ValueError, match=r"another population \(of 400, .* has 401"):
        opened(folder, "0" * 16, grown)
    # Nothing is left open.
    opened(folder, "0" * 16).close()


def test_what_does_not_fit_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot make .*file \(File exists\)"):
        opened(tmp_path / "file", FIRST)
    with pytest.raises(ValueError, match=r"cannot make .* \(No such file"):
        opened(tmp_path / "no" / "folder", FIRST)
    of_clients = privacy.GaussianEvent("none", 8.0, 1.0, 9, 3.0, "add_or_remove_one")
    refused = pytest.raises(ValueError, match="is of records, but a round of")
    with opened(tmp_path / "new", FIRST) as ledgers, refused:
        ledgers.record(1, of_clients)


def test_an_account_charges_them_before_its_own_ledger(tmp_path):
    with account_in(tmp_path) as account:
        for number in (1, 2):
            account.charge(number)
        assert account.shared_epsilon(2) == pytest.approx(
            gaussian_epsilon([(30.0, 8)], 1e-5), rel=1e-6
        )
        positions = json.loads(json.dumps(account.positions()))
        account.check_positions(positions)
    assert set(positions) == {"own", "shared"}
    # A kill after one client's ledger: the resumed run writes the others' line.
    (tmp_path / "run" / "ledger.jsonl").write_bytes(
        (tmp_path / "run" / "ledger.jsonl").read_bytes().splitlines(keepends=True)[0]
    )
    head_file.path_of(tmp_path / "run" / "ledger.jsonl").unlink()
    path = tmp_path / "ledgers" / "many.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    head_file.path_of(path).unlink()
    with account_in(tmp_path) as account:
        account.charge(2)
        assert {len(rows(tmp_path / "ledgers", n)) for n, k in CLIENTS if k} == {2}


def test_verify_and_show_one_clients_ledger(tmp_path, capsys):
    with account_in(tmp_path) as account:
        for number in (1, 2):
            account.charge(number)
    path = str(tmp_path / "ledgers" / "many.jsonl")
    assert ledger_cli.main(["show", path, "--delta=1e-4"]) == 0
    out = capsys.readouterr().out
    assert "unit of privacy record, " in out
    assert ", 400 records, accountant PLD\n" in out
    epsilon = EVENT.of_client(3).epsilon(2, 1e-4, "pld")
    assert rounded_up(epsilon) in out
    folder = str(tmp_path / "run")
    assert ledger_cli.main(["verify", path, folder]) == 0
    assert "every line of run" in capsys.readouterr().out
    lines = (tmp_path / "ledgers" / "many.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "ledgers" / "many.jsonl").write_bytes(lines[0])
    (tmp_path / "ledgers" / "many.jsonl.head").unlink()
    assert ledger_cli.main(["verify", path, folder]) == 1
    assert "whose own ledger has 2; lines were lost" in capsys.readouterr().err


def test_restarts_and_releases_are_in_every_clients_ledger(tmp_path):
    evaluation = dataclasses.replace(EVENT, noise_multiplier=90.0)
    choice = privacy.PureEvent(0.3, "add_or_remove_one", "record")
    with account_in(tmp_path) as account:
        for number in (1, 2, 3):
            account.charge(number)
        account.charge_release("evaluation", 3, evaluation)
        account.recharge_after(1)
        account.charge(2)
        found = account.charge_release("selection", 2, choice)
        many = [
            (EVENT.of_client(3), 4),
            (evaluation.of_client(3), 1),
            (choice, 1),
        ]
        epsilons = account.client_epsilons(2)
        assert epsilons[3] == pytest.approx(
            privacy.composed_epsilon(many, DELTAS[3]), rel=1e-6
        )
        assert epsilons[2] == 0
        assert found == max(epsilons)
        assert account.shared.client_epsilons(2, EVENT)["many"] == pytest.approx(
            epsilons[3], rel=1e-6
        )
    for name in ("a/b", "Bob's", "many"):
        kinds = [
            next(k for k in ("restart", "release", "round") if k in row)
            for row in rows(tmp_path / "ledgers", name)
        ]
        expected = ["round"] * 3 + ["release", "restart", "round", "release"]
        assert kinds == expected


def test_a_restart_after_a_kill_between_two_clients(tmp_path):
    """Some ledgers have round 2 when the run is killed; all get it, then restart."""
    with account_in(tmp_path) as account:
        account.charge(1)
        few = account.shared._ledgers["a/b"]
        few.record(2, EVENT.of_client(0))
    with account_in(tmp_path) as account:
        assert len(account.ledger) == 1
        account.recharge_after(1)
        account.charge(2)
    found = [len(rows(tmp_path / "ledgers", name)) for name in ("a/b", "Bob's", "many")]
    assert found == [4, 4, 4]
    with account_in(tmp_path) as account:
        assert len(account.ledger.entries) == 4
        assert account.ledger.entries == account.shared.entries


def test_clients_that_begin_beside_ledgers_of_others(folder):
    renamed = dataclasses.replace(EVENT, clients=(("a-b", 20), *CLIENTS[1:]))
    with opened(folder, "0" * 16, renamed) as ledgers:
        assert ledgers.others() == (["a-b"], ["a/b"])
        ledgers.record(1, renamed)
        # Its own lines are no earlier run.
        assert ledgers.others() == (["a-b"], ["a/b"])
        [line] = beside_lines(ledgers)
    assert "ε of 'a-b' begins at 0" in line
    with opened(folder, "1" * 16, renamed) as ledgers:
        assert beside_lines(ledgers) == []
    with opened(folder, "2" * 16) as ledgers:
        assert ledgers.others() == ([], [])
