"""A site charges its own records: before the work, once, and within its policy."""

from __future__ import annotations

import json
import math

import pytest

from tfl_research.federation.site.policy import SitePolicy
from tfl_research.federation.site.site_ledger import SiteLedger
from tfl_research.federation.wire.handler import Refused
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.accounting.events.record_event import RecordEvent
from tfl_research.privacy.plans.record_level import RecordLevelPlan

_EVENT = RecordEvent(2.0, 100.0, 3, 1, (("a", 1000), ("b", 2000), ("far", 50)))
_SIZES = {"a": 1000, "b": 2000}


def _epsilon(rounds, delta=None, clients=("a", "b")):
    """The largest ε of the clients, 3 local steps a round, at n^-1.1 or at a δ."""
    return max(
        GaussianEvent.poisson(2.0, 100 / _SIZES[name]).epsilon(
            3 * rounds, delta or _SIZES[name] ** -1.1, "rdp"
        )
        for name in clients
    )


def _plan(event=_EVENT, rounds=20, **changes):
    deltas = (1e-3,) * len(event.clients)
    return RecordLevelPlan(event, 1.0, deltas, "rdp", rounds, **changes)


@pytest.fixture
def opened(tmp_path):
    """Opens the ledger of a run; the earlier one of the same run is closed first."""
    ledgers: dict[str, SiteLedger] = {}
    lines: list[str] = []

    def start(run="run1", plan=None, clients=("a", "b"), policy=None, seed=5):
        if run in ledgers:
            ledgers[run].close()
        folder = tmp_path / "runs" / run
        folder.mkdir(parents=True, exist_ok=True)
        ledgers[run] = SiteLedger(
            folder,
            tmp_path / "state",
            plan or _plan(),
            clients,
            seed=seed,
            policy=policy or SitePolicy(),
            say=lines.append,
        )
        return ledgers[run]

    start.lines = lines
    start.folder = tmp_path
    yield start
    for ledger in ledgers.values():
        ledger.close()


def _rounds(folder, run="run1"):
    lines = (folder / "runs" / run / "ledger.jsonl").read_text().splitlines()
    return [json.loads(line)["round"] for line in lines[1:]]


class TestCharges:
    def test_the_sites_own_clients_at_their_own_delta(self, opened):
        ledger = opened()
        epsilon = ledger.charge(1)
        assert epsilon == pytest.approx(_epsilon(1))
        assert ledger.charge(2) == pytest.approx(_epsilon(2))
        assert ledger.account.event.clients == (("a", 1000), ("b", 2000))
        assert _rounds(opened.folder) == [1, 2]
        files = sorted(
            p.name for p in (opened.folder / "state/ledgers").glob("*.jsonl")
        )
        assert files == ["a.jsonl", "b.jsonl"]

    def test_a_round_is_charged_once(self, opened):
        ledger = opened()
        once = ledger.charge(1)
        assert ledger.charge(1) == once
        ledger.charge(2)
        # Also by the process after a kill, and for an earlier round.
        again = opened()
        assert again.charge(1) == once
        again.charge(2)
        assert _rounds(opened.folder) == [1, 2]
        assert len(again.account.ledger) == 2

    def test_the_line_is_there_before_the_work(self, opened):
        ledger = opened()
        ledger.charge(1)
        # Not closed: another reader sees the line on disk.
        assert _rounds(opened.folder) == [1]

    def test_missed_rounds_are_charged_with_the_next(self, opened):
        ledger = opened()
        ledger.charge(1)
        assert ledger.charge(4) == pytest.approx(_epsilon(4))
        assert _rounds(opened.folder) == [1, 2, 3, 4]
        assert opened.lines == [
            "rounds 2 to 3 are charged, although this site took no part in them"
        ]

    def test_a_kill_between_the_two_ledgers(self, opened):
        """The clients' ledgers are written first; the run's own catches up."""
        ledger = opened()
        ledger.charge(1)
        ledger.account.shared.record(2, ledger.account.event)
        again = opened()
        assert _rounds(opened.folder) == [1, 2]
        again.charge(2)
        assert _rounds(opened.folder) == [1, 2]

    def test_a_site_that_restarts_forgets_nothing(self, opened):
        opened().charge(3)
        assert opened().charge(3) == pytest.approx(_epsilon(3))

    def test_all_runs_together(self, opened):
        opened("run1").charge(2)
        second = opened("run2")
        second.charge(3)
        assert second.epsilons() == {
            name: pytest.approx(_epsilon(5, clients=[name])) for name in ("a", "b")
        }
        assert [line.split(":")[0] for line in second.lines()] == ["a", "b"]
        assert "δ = 0.00050" in second.lines()[0]


class TestRefusals:
    def test_beyond_the_largest_epsilon(self, opened):
        largest = 1.0001 * _epsilon(3, 1e-5)
        policy = SitePolicy(largest_epsilon=largest, delta=1e-5)
        ledger = opened(policy=policy)
        for number in (1, 2, 3):
            ledger.charge(number)
        with pytest.raises(Refused, match=r"round 4 would .* largest_epsilon = "):
            ledger.charge(4)
        assert _rounds(opened.folder) == [1, 2, 3]
        # What was charged can still be asked for.
        assert ledger.charge(3) == pytest.approx(largest / 1.0001)
        # And no other run begins.
        with pytest.raises(Refused, match="round 1 would put"):
            opened("run2", policy=policy)

    def test_the_coordinators_delta_does_not_count(self, opened):
        """At its large δ more rounds would fit."""
        largest = 1.0001 * _epsilon(2)
        ledger = opened(
            plan=RecordLevelPlan(_EVENT, 1.0, (0.5,) * 3, "rdp", 20),
            policy=SitePolicy(largest_epsilon=largest),
        )
        ledger.charge(2)
        with pytest.raises(Refused):
            ledger.charge(3)

    def test_missed_rounds_that_do_not_fit(self, opened):
        policy = SitePolicy(largest_epsilon=1.0001 * _epsilon(3))
        ledger = opened(policy=policy)
        with pytest.raises(Refused, match="round 4 would"):
            ledger.charge(9)
        assert _rounds(opened.folder) == [1, 2, 3]

    def test_no_noise_has_no_epsilon(self, opened):
        event = RecordEvent(0.0, 10.0, 3, 1, (("a", 1000),))
        with pytest.raises(Refused, match="round 1 would put"):
            opened(
                plan=_plan(event),
                clients=["a"],
                policy=SitePolicy(largest_epsilon=100.0),
            )
        free = opened(plan=_plan(event), clients=["a"])
        assert math.isinf(free.charge(1))

    def test_less_noise_than_the_policy_wants(self, opened):
        with pytest.raises(Refused, match="least_record_noise_multiplier"):
            opened(policy=SitePolicy(least_record_noise_multiplier=2.5))

    @pytest.mark.parametrize("number", [0, -1, 21])
    def test_rounds_that_the_run_does_not_have(self, opened, number):
        with pytest.raises(Refused, match="not one of the run's 20 rounds"):
            opened().charge(number)

    def test_clients_that_the_plan_does_not_have(self, opened):
        with pytest.raises(Refused, match="no client 'c'"):
            opened(clients=["a", "c"])
        with pytest.raises(Refused, match="has no client in the run"):
            opened(clients=[])

    @pytest.mark.parametrize(
        "changes",
        [
            {"seed": 6},
            {"plan": _plan(RecordEvent(3.0, 100.0, 3, 1, _EVENT.clients))},
        ],
    )
    def test_another_run_in_the_same_folder(self, opened, changes):
        opened().charge(1)
        with pytest.raises(Refused, match="does not fit the run; the site sees why"):
            opened(**changes)
        assert opened.lines[-1].startswith("the ledger of this site: ")
        assert len(opened.lines) == 1

    @pytest.mark.parametrize("run", ["run1", "run2"])
    def test_another_number_of_records(self, opened, run):
        """Another seed draws other training records, and rows may be added."""
        opened().charge(1)
        other = RecordEvent(2.0, 100.0, 3, 1, (("a", 999), ("b", 2000)))
        with pytest.raises(Refused, match="number of training records; give the seed"):
            opened(run, plan=_plan(other))
        assert "about another population (of 1000" in opened.lines[0]
        assert "give the client's file another name" in opened.lines[1]
        # Nothing was charged, and the ledger goes on.
        assert opened().charge(2) == pytest.approx(_epsilon(2))
        assert len(opened.lines) == 2

    def test_a_ledger_that_lost_its_last_line(self, opened):
        opened().charge(2)
        path = opened.folder / "runs/run1/ledger.jsonl"
        path.write_text("".join(path.read_text().splitlines(True)[:-1]))
        with pytest.raises(Refused, match="does not fit"):
            opened()

    def test_a_ledger_that_another_process_has_open(self, opened, tmp_path):
        opened()
        with pytest.raises(Refused):
            SiteLedger(
                tmp_path / "runs/run1",
                tmp_path / "state",
                _plan(),
                ["a"],
                seed=5,
                policy=SitePolicy(),
                say=opened.lines.append,
            )
        assert "in use by another process" in opened.lines[0]


def _charged(ledger, rounds):
    for number in range(1, rounds + 1):
        ledger.charge(number)


class TestLostCharges:
    def _lines(self, opened, name="a"):
        path = opened.folder / f"state/ledgers/{name}.jsonl"
        return path, path.with_name(f"{path.name}.head")

    def test_ledger_and_head_are_older_than_the_runs(self, opened):
        _charged(opened("run1"), 1)
        older = [path.read_bytes() for path in self._lines(opened)]
        _charged(opened("run2"), 3)
        for path, content in zip(self._lines(opened), older):
            path.write_bytes(content)
        with pytest.raises(Refused, match="does not fit the run"):
            opened("run3")
        [line] = opened.lines
        assert "a.jsonl has 0 lines of the run in" in line
        assert "runs/run2, but the run's own ledger has 3" in line

    def test_the_ledger_is_gone(self, opened):
        _charged(opened("run1"), 2)
        for path in self._lines(opened):
            path.unlink()
        with pytest.raises(Refused, match="does not fit the run"):
            opened("run2")
        assert "a.jsonl has 0 lines of the run in" in opened.lines[0]

    def test_repeated_rounds_count(self, opened):
        first = opened("run1")
        _charged(first, 2)
        first.restart(1)
        first.charge(2)
        second = opened("run2")
        second.charge(1)
        assert max(second.epsilons().values()) == pytest.approx(_epsilon(4))
        assert opened.lines == [
            "the run begins again after round 1, with new noise: rounds 2 to 2 are "
            "charged again when they are repeated"
        ]

    def test_runs_on_other_numbers_of_records_do_not_count(self, opened):
        _charged(opened("run1"), 2)
        for path in self._lines(opened):
            path.unlink()
        event = RecordEvent(2.0, 100.0, 3, 1, (("a", 999), ("b", 2000)))
        assert opened("run2", plan=_plan(event)).charge(1) > 0

    def test_a_client_under_another_name_is_said(self, opened):
        _charged(opened("run1"), 2)
        event = RecordEvent(2.0, 100.0, 3, 1, (("new", 1000), ("b", 2000)))
        ledger = opened("run2", plan=_plan(event), clients=("new", "b"))
        [line] = opened.lines
        assert line.startswith("ε of 'new' begins at 0, and ")
        assert "ledgers of clients that this run does not have: 'a'." in line
        ledger.charge(1)
        opened("run3", plan=_plan(event), clients=("new", "b"))
        assert opened.lines == [line]
