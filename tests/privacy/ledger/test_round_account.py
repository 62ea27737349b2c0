"""Charging rounds, budgets, resuming, and what a resumed run may change."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from tfl_research import privacy, sampling
from tfl_research.privacy import mechanisms
from tfl_research.privacy.accounting.composition import composed_epsilon
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.accounting.events.record_event import RecordEvent

POISSON = sampling.Poisson(range(1000), 20, seed=1).amplification
FIXED = sampling.FixedSize(range(1000), 20, seed=1).amplification
FULL = sampling.Full(range(10)).amplification
RECORDS = RecordEvent(1.0, 8.0, 4, 1, (("a", 90),))


@pytest.fixture
def ledger(tmp_path):
    with privacy.Ledger(tmp_path / "ledger.jsonl") as opened:
        yield opened


def account(ledger, noise_multiplier=1.0, amplification=POISSON, **settings):
    plan = privacy.UserLevelPlan.create(
        "gaussian",
        l2_norm_clip=1.0,
        amplification=amplification,
        rounds=10,
        noise_multiplier=noise_multiplier,
        delta=settings.pop("delta", 1e-5),
        budget_epsilon=settings.pop("budget_epsilon", None),
    )
    return privacy.RoundAccount(ledger, plan, **settings)


def of_tree(ledger, restart_every=100, rounds=12):
    plan = privacy.UserLevelPlan.create(
        mechanisms.Tree(restart_every=restart_every),
        l2_norm_clip=1.0,
        amplification=SEPARATED,
        rounds=rounds,
        noise_multiplier=1.5,
        delta=1e-5,
    )
    return privacy.RoundAccount(ledger, plan)


def test_charges_follow_the_curve_and_the_ledger_grows(ledger):
    run = account(ledger)
    charged = [run.charge(number) for number in range(1, 31)]
    curve = privacy.epsilon_curve(
        noise_multiplier=1.0, sampling_rate=0.02, rounds=30, delta=1e-5
    )
    np.testing.assert_allclose(charged, curve, rtol=1e-12)
    assert len(ledger) == 30
    assert set(ledger.events) == {GaussianEvent.of(1.0, POISSON)}
    assert run.epsilon_after(30) == charged[-1]
    assert run.epsilon_after(0) == 0
    assert (run.delta, run.noise_multiplier) == (1e-5, 1.0)


def test_a_round_is_in_the_ledger_before_its_epsilon_is_known(ledger, monkeypatch):
    run = account(ledger)

    def fail(rounds):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "epsilon_after", fail)
    with pytest.raises(KeyboardInterrupt):
        run.charge(1)
    assert len(ledger) == 1


def test_repeating_a_round_after_a_kill_spends_nothing(ledger, tmp_path):
    run = account(ledger)
    before = [run.charge(number) for number in range(1, 8)]
    ledger.close()
    with privacy.Ledger(tmp_path / "ledger.jsonl") as reopened:
        resumed = account(reopened)
        # The checkpoint was of round 4.
        assert [resumed.charge(number) for number in range(5, 8)] == before[4:]
        assert len(reopened) == 7
        assert resumed.charge(8) > before[-1]


def test_other_noise_after_resuming_is_composed(ledger):
    first = account(ledger, 1.0)
    for number in (1, 2):
        first.charge(number)
    second = account(ledger, 2.0)
    with pytest.raises(ValueError, match="resume with the same privacy settings"):
        second.charge(2)
    epsilon = second.charge(3)
    events = [(GaussianEvent.of(1.0, POISSON), 2), (GaussianEvent.of(2.0, POISSON), 1)]
    assert epsilon == composed_epsilon(events, 1e-5)
    # More than the first two alone, less than three rounds of the smaller noise.
    assert first.epsilon_after(2) < epsilon < privacy.EpsilonCurve(first.event, 1e-5)(3)


def test_another_neighbouring_relation_is_refused(ledger):
    account(ledger).charge(1)
    with pytest.raises(ValueError, match="resume with the same sampler"):
        account(ledger, amplification=FIXED)


@pytest.mark.parametrize("amplification", [POISSON, FIXED, FULL])
def test_budget_stops_before_the_round_that_exceeds_it(ledger, amplification):
    budget = account(ledger, amplification=amplification).epsilon_after(5) * 1.0001
    run = account(ledger, amplification=amplification, budget_epsilon=budget)
    rounds = 0
    while not run.would_exceed(rounds + 1):
        rounds += 1
        assert run.charge(rounds) <= budget
    assert rounds == 5
    assert run.epsilon_after(6) > budget
    assert len(ledger) == 5


def test_a_budget_that_is_met_exactly_is_not_exceeded(ledger):
    budget = account(ledger).epsilon_after(5)
    run = account(ledger, budget_epsilon=budget)
    assert not run.would_exceed(5)
    assert run.would_exceed(6)


def test_without_a_budget_nothing_exceeds(ledger):
    assert not account(ledger, noise_multiplier=0.0).would_exceed(10**6)


def test_no_noise_is_infinite_and_recorded(ledger):
    run = account(ledger, noise_multiplier=0.0)
    assert run.charge(1) == math.inf
    assert run.epsilon_after(1) == math.inf
    assert ledger[0].noise_multiplier == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"delta": 0.0}, "^delta=0: must be above 0"),
        ({"noise_multiplier": -1.0}, "noise_multiplier must be at least 0"),
        ({"budget_epsilon": 0.0}, "^budget_epsilon=0: must be above 0"),
        ({"budget_epsilon": math.nan}, "^budget_epsilon=nan: must be above 0"),
        ({"budget_epsilon": 0.01}, "^budget_epsilon=0.01: the first round alone costs"),
    ],
)
def test_bad_settings(ledger, settings, message):
    with pytest.raises(ValueError, match=message):
        account(ledger, **settings)


SEPARATED = sampling.MinSeparation(range(100), 10, seed=1).amplification
TREE = privacy.TreeEvent.of(1.5, SEPARATED, restart_every=100)


def test_rounds_of_a_tree_are_charged_together(ledger):
    run = of_tree(ledger)
    charged = [run.charge(number) for number in range(1, 13)]
    np.testing.assert_array_equal(charged, TREE.epsilon_curve(12, 1e-5, "pld"))
    assert run.groups(7) == [(TREE, 7)]
    assert run.groups(20) == [(TREE, 20)]
    assert run.noise_multiplier == 1.5


def test_a_tree_cannot_begin_or_go_on_within_another_run(ledger):
    of_tree(ledger).charge(1)
    with pytest.raises(ValueError, match="number of rounds, or start a new run"):
        of_tree(ledger, restart_every=50)
    unsampled = dataclasses.replace(
        sampling.Full(range(100)).amplification, neighbouring_relation="zero_out"
    )
    with pytest.raises(ValueError, match="whose noise cannot continue"):
        account(ledger, amplification=unsampled)


def test_another_unit_of_privacy_is_refused(ledger):
    account(ledger).charge(1)
    record = privacy.RecordEvent(1.0, 8.0, 5, 1, (("a", 400),))
    with pytest.raises(ValueError, match="a client as the unit of privacy"):
        privacy.RoundAccount(
            ledger, privacy.RecordLevelPlan(record, 1.0, (1e-5,), "pld", 3)
        )


class TestSharedLedger:
    CLIENTS = privacy.Population.of([f"client {n}" for n in range(1000)])

    @pytest.fixture
    def shared(self, tmp_path):
        def opened(run):
            return privacy.SharedLedger(tmp_path / "shared", run * 16, self.CLIENTS)

        with opened("a") as first, opened("b") as second:
            yield first, second

    def test_the_budget_is_that_of_all_runs(self, ledger, shared):
        ours, others = shared
        event = GaussianEvent.of(1.0, POISSON)
        budget = privacy.EpsilonCurve(event, 1e-5)(5) * 1.0001
        run = account(ledger, shared=ours, budget_epsilon=budget)
        others.record(1, event)
        others.record(2, event)
        rounds = 0
        while not run.would_exceed(rounds + 1):
            rounds += 1
            # ε of this run alone, so that it does not depend on other runs.
            expected = privacy.EpsilonCurve(event, 1e-5)(rounds)
            assert run.charge(rounds) == expected
        assert rounds == 3
        total = privacy.EpsilonCurve(event, 1e-5).at(5)
        assert run.shared_epsilon(3) == pytest.approx(total, rel=1e-6)
        assert [len(spent.events) for spent in ours.spent] == [2, 3]

    def test_a_round_that_others_spend_first_is_not_charged(self, ledger, shared):
        ours, others = shared
        event = GaussianEvent.of(1.0, POISSON)
        budget = privacy.EpsilonCurve(event, 1e-5)(1) * 1.0001
        run = account(ledger, shared=ours, budget_epsilon=budget)
        assert not run.would_exceed(1)
        others.record(1, event)
        assert run.charge(1) is None
        assert len(ledger) == 0
        assert run.would_exceed(1)

    def test_without_a_budget_rounds_are_in_both_ledgers(self, ledger, shared):
        ours, _ = shared
        run = account(ledger, shared=ours)
        assert run.charge(1) == run.epsilon_after(1)
        assert (len(ledger), len(ours)) == (1, 1)
        assert account(ledger).shared_epsilon(1) is None

    @pytest.mark.parametrize("budget", [None, 50.0])
    def test_another_unit_that_came_in_between_is_one_error(
        self, ledger, shared, budget
    ):
        ours, others = shared
        run = account(ledger, shared=ours, budget_epsilon=budget)
        others.record(1, RECORDS)
        ask = run.charge if budget is None else run.would_exceed
        with pytest.raises(privacy.ChargeError, match="unit 'record', but this"):
            ask(1)
        assert (len(ledger), len(ours)) == (0, 1)

    def test_another_unit_is_refused_before_the_first_round(self, ledger, shared):
        _, others = shared
        others.record(1, RECORDS)
        ours = privacy.SharedLedger(others.path, "c" * 16, self.CLIENTS)
        with ours, pytest.raises(ValueError, match="no ε covers both"):
            account(ledger, shared=ours)

    def test_a_ledger_that_lost_lines_since_is_told_by_its_position(
        self, ledger, shared
    ):
        ours, _ = shared
        run = account(ledger, shared=ours)
        assert run.charge(1) is not None
        early = run.positions()
        assert run.charge(2) is not None
        run.check_positions(early)
        run.check_positions(run.positions())
        for name in ("own", "shared"):
            ahead = run.positions()
            ahead[name] = {**ahead[name], "lines": ahead[name]["lines"] + 1}
            with pytest.raises(ValueError, match="its last lines were lost"):
                run.check_positions(ahead)
