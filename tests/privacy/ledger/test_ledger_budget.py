"""A budget in a shared ledger binds every run, whatever its own budget and δ."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tfl_research import privacy, sampling
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.accounting.events.record_event import RecordEvent
from tfl_research.privacy.ledger import ledger_budget
from tfl_research.privacy.ledger.lines.budget import LedgerBudget

POISSON = sampling.Poisson(range(1000), 20, seed=1).amplification
EVENT = GaussianEvent.of(1.0, POISSON)
EVALUATION = GaussianEvent("none", 5.0, 1.0, 1000, 1000.0, "add_or_remove_one")
PEOPLE = privacy.Population.of(map(str, range(1000)))
FIRST, SECOND = "0123456789abcdef", "fedcba9876543210"
# Five rounds fit, six do not.
CURVE = privacy.EpsilonCurve(EVENT, 1e-6)
BUDGET = LedgerBudget((CURVE(5) + CURVE(6)) / 2, 1e-6)


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "shared.jsonl"
    assert ledger_budget.write_budget(found, BUDGET) is None
    return found


def account(path, run, **settings):
    plan = privacy.UserLevelPlan.create(
        "gaussian",
        l2_norm_clip=1.0,
        amplification=POISSON,
        rounds=10,
        noise_multiplier=1.0,
        **{"delta": 1e-3, **settings},
    )
    own = privacy.Ledger(path.with_name(f"{run}.jsonl"))
    return privacy.RoundAccount(own, plan, privacy.SharedLedger(path, run, PEOPLE))


@pytest.mark.parametrize("own_budget", [None, 100.0])
def test_every_run_stops_at_it(path, own_budget):
    """Its δ is the ledger's, at which ε is larger than at the run's."""
    first = account(path, FIRST, budget_epsilon=own_budget)
    second = account(path, SECOND, budget_epsilon=own_budget)
    for number in (1, 2):
        assert not first.would_exceed(number)
        assert first.charge(number) is not None
        assert second.charge(number) is not None
    assert first.charge(3) is not None
    for run, number in ((first, 4), (second, 3)):
        assert run.would_exceed(number)
        assert run.charge(number) is None
        assert len(run.ledger) == number - 1
    assert first.charge_release("evaluation", 3, EVALUATION) is None
    # What is recorded may be repeated, and a restart costs nothing.
    assert first.charge(3) is not None
    first.recharge_after(2)
    assert first.charge(3) is None
    budget, spent = first.shared.budget_spent()
    assert budget == BUDGET
    assert spent == pytest.approx(CURVE(5), rel=1e-6)


def test_a_stricter_budget_of_the_run_holds_too(path):
    own = privacy.EpsilonCurve(EVENT, 1e-3)(2) * 1.0001
    run = account(path, FIRST, budget_epsilon=own)
    assert run.charge(1) is not None
    assert run.charge(2) is not None
    assert run.would_exceed(3)


def test_a_budget_that_is_lowered_while_a_run_is_open_holds_at_once(path):
    run = account(path, FIRST)
    assert run.charge(1) is not None
    lower = dataclasses.replace(BUDGET, epsilon=CURVE(1) * 1.0001)
    assert ledger_budget.write_budget(path, lower) == BUDGET
    assert run.would_exceed(2)
    assert run.charge(2) is None
    with pytest.raises(ValueError, match="would allow more: give --raise"):
        ledger_budget.write_budget(path, BUDGET)
    ledger_budget.write_budget(path, BUDGET, may_raise=True)
    assert not run.would_exceed(2)
    assert run.charge(2) is not None


def test_a_clients_own_ledger_may_have_one(tmp_path):
    event = RecordEvent(30.0, 20.0, 4, 1, (("few", 20), ("many", 400)))
    deltas = (1e-3, 1e-5)
    of_few = privacy.EpsilonCurve(event.of_client(0), 1e-3)
    (tmp_path / "ledgers").mkdir()
    ledger_budget.write_budget(
        tmp_path / "ledgers" / "few.jsonl", LedgerBudget(of_few(2) * 1.0001, 1e-3)
    )
    with privacy.ClientLedgers(tmp_path / "ledgers", FIRST, event, deltas) as ledgers:
        ledgers.record(1, event)
        ledgers.record(2, event)
        assert ledgers.would_exceed(3, event, 1e-3, None, None)
        assert ledgers.budget_spent()[1] == pytest.approx(of_few(2), rel=1e-6)


def test_a_refused_release_is_in_no_clients_ledger(tmp_path):
    event = RecordEvent(30.0, 20.0, 4, 1, (("few", 20), ("many", 400)))
    release = privacy.PureEvent(0.5, "add_or_remove_one", "record")
    (tmp_path / "ledgers").mkdir()
    # The first client's ledger has no budget, the second one's has.
    ledger_budget.write_budget(
        tmp_path / "ledgers" / "many.jsonl", LedgerBudget(0.4, 1e-5)
    )
    how = 1e-3, None, None
    with privacy.ClientLedgers(
        tmp_path / "ledgers", FIRST, event, (1e-3, 1e-5)
    ) as ledgers:
        ledgers.record(1, event)
        with pytest.raises(privacy.BudgetExceededError, match="evaluation after"):
            ledgers.release("evaluation", 1, release, *how)
        ledgers.record(2, event)
        recorded = ledgers.entries
    assert [entry.round for entry in recorded] == [1, 2]
    for name in ("few", "many"):
        lines = (tmp_path / "ledgers" / f"{name}.jsonl").read_text().splitlines()
        assert not any("release" in json.loads(line) for line in lines)
    # So that the run can be resumed.
    with privacy.ClientLedgers(
        tmp_path / "ledgers", FIRST, event, (1e-3, 1e-5), recorded
    ):
        pass


@pytest.mark.parametrize(
    "fields",
    [
        {"budget": "x", "delta": 1e-5, "accountant": None},
        {"budget": 1.0, "delta": 0, "accountant": None},
        {"budget": 1.0, "delta": 1e-5, "accountant": "luck"},
        {"budget": 1.0, "delta": 1e-5},
        {"budget": 1.0, "delta": 1e-5, "accountant": None, "note": "extra"},
    ],
)
def test_impossible_lines_are_refused(fields):
    with pytest.raises(ValueError, match="line 3: not a ledger line"):
        LedgerBudget.parse("x, line 3", fields)
