"""Rounds that are repeated with new noise, and releases beside the rounds."""

from __future__ import annotations

import contextlib
import json

import pytest

from tfl_research import privacy, sampling
from tfl_research.privacy import mechanisms
from tfl_research.privacy.accounting.composition import composed_epsilon
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.accounting.events.record_event import RecordEvent
from tfl_research.privacy.ledger.lines.entries import (
    Release,
    Restart,
    Round,
)

POISSON = sampling.Poisson(range(1000), 20, seed=1).amplification
EVENT = GaussianEvent.of(1.0, POISSON)
EVALUATION = GaussianEvent("none", 5.0, 1.0, 1000, 1000.0, "add_or_remove_one")
SELECTION = privacy.PureEvent(0.5, "add_or_remove_one")
RUN = "0123456789abcdef"
IDENTITY = privacy.RunIdentity(RUN, 7)
PEOPLE = privacy.Population.of(map(str, range(1000)))
DELTA = 1e-5


def plan(**settings):
    return privacy.UserLevelPlan.create(
        "gaussian",
        l2_norm_clip=1.0,
        amplification=POISSON,
        rounds=10,
        delta=DELTA,
        **{"noise_multiplier": 1.0, **settings},
    )


@contextlib.contextmanager
def opened(folder, shares=True, **settings):
    """The account of a run that may share a ledger."""
    with contextlib.ExitStack() as stack:
        own = stack.enter_context(privacy.Ledger(folder / "ledger.jsonl", IDENTITY))
        shared = None
        if shares:
            shared = stack.enter_context(
                privacy.SharedLedger(folder / "shared.jsonl", RUN, PEOPLE, own.entries)
            )
        yield privacy.RoundAccount(own, plan(**settings), shared)


def epsilon(*groups):
    return composed_epsilon(groups, DELTA)


def lines(path):
    found = [json.loads(line) for line in path.read_bytes().splitlines()]
    names = ("previous", "hash", "population", "run", "event", "salt")
    return [
        {key: value for key, value in line.items() if key not in names}
        for line in found
    ]


@pytest.mark.parametrize("shares", [False, True])
def test_repeated_rounds_are_charged_again(tmp_path, shares):
    with opened(tmp_path, shares) as account:
        for number in (1, 2, 3):
            account.charge(number)
        account.recharge_after(1)
        assert len(account.ledger) == 1
        charged = [account.charge(2), account.charge(3), account.charge(4)]
        # Five rounds, then six, then seven: two were charged for nothing.
        expected = [epsilon((EVENT, number + 2)) for number in (2, 3, 4)]
        assert charged == pytest.approx(expected, rel=1e-9)
        assert account.groups(4) == [(EVENT, 6)]
        if shares:
            assert account.shared_epsilon(4) == pytest.approx(charged[-1], rel=1e-6)
    assert lines(tmp_path / "ledger.jsonl")[1:] == [
        {"round": 1},
        {"round": 2},
        {"round": 3},
        {"restart": 1, "after": 1},
        {"round": 2},
        {"round": 3},
        {"round": 4},
    ]
    if shares:
        of_run = lines(tmp_path / "shared.jsonl")
        assert of_run == lines(tmp_path / "ledger.jsonl")[1:]


def test_a_restart_is_there_once_however_often_the_run_is_killed(tmp_path):
    with opened(tmp_path) as account:
        account.recharge_after(0)  # Nothing was charged yet.
        account.charge(1)
        account.charge(2)
    for _ in range(3):
        with opened(tmp_path) as account:
            account.recharge_after(1)
    with opened(tmp_path) as account:
        account.charge(2)
        account.recharge_after(1)
    found = [Round(1, EVENT), Round(2, EVENT), Restart(1, 1), Round(2, EVENT)]
    with opened(tmp_path) as account:
        assert list(account.ledger.entries) == [*found, Restart(2, 1)]
        assert account.epsilon_after(1) == pytest.approx(epsilon((EVENT, 3)))


@pytest.mark.parametrize(
    "kind", ["round", "restart", "release"], ids=["round", "restart", "release"]
)
def test_a_kill_between_the_two_ledgers(tmp_path, kind, monkeypatch):
    """The shared ledger has the line; the resumed run's own gets it, once."""

    def act(account):
        if kind == "round":
            account.charge(3)
        elif kind == "restart":
            account.recharge_after(1)
        else:
            account.charge_release("evaluation", 2, EVALUATION)

    def killed(self, entry):
        del self, entry
        raise KeyboardInterrupt

    with opened(tmp_path) as account:
        account.charge(1)
        account.charge(2)
        with monkeypatch.context() as patch:
            patch.setattr(privacy.Ledger, "_append", killed)
            with pytest.raises(KeyboardInterrupt):
                act(account)
        assert len(account.ledger.entries) == 2
        assert len(account.shared.entries) == 3
    with opened(tmp_path) as account:
        assert len(account.ledger.entries) == 3
        act(account)
        assert account.ledger.entries == account.shared.entries
        assert len(account.ledger.entries) == 3
        # A new attempt after the kill, whatever the line was.
        account.recharge_after(1)
        account.charge(2)
    with opened(tmp_path) as account:
        assert account.ledger.entries == account.shared.entries


def test_a_restart_of_correlated_noise_is_refused(tmp_path):
    made = privacy.UserLevelPlan.create(
        mechanisms.Tree(restart_every=16),
        l2_norm_clip=1.0,
        amplification=sampling.MinSeparation(range(1000), 20, 1).amplification,
        rounds=10,
        noise_multiplier=2.0,
        delta=DELTA,
    )
    with privacy.Ledger(tmp_path / "ledger.jsonl", IDENTITY) as ledger:
        account = privacy.RoundAccount(ledger, made)
        account.charge(1)
        with pytest.raises(privacy.ChargeError, match="correlated over the") as refused:
            account.recharge_after(0)
        assert "\n" not in str(refused.value)
        assert len(ledger.entries) == 1


def test_a_restart_after_a_round_that_is_not_there_is_refused(tmp_path):
    with opened(tmp_path) as account:
        account.charge(1)
        with pytest.raises(privacy.ChargeError, match="rounds after 2 cannot be"):
            account.recharge_after(2)
        assert len(account.ledger.entries) == len(account.shared.entries) == 1


@pytest.mark.parametrize("shares", [False, True])
def test_releases_compose_with_the_rounds(tmp_path, shares):
    with opened(tmp_path, shares) as account:
        account.charge(1)
        first = account.charge_release("evaluation", 1, EVALUATION)
        assert first == pytest.approx(epsilon((EVENT, 1), (EVALUATION, 1)))
        assert account.charge_release("evaluation", 1, EVALUATION) == first
        second = account.charge(2)
        assert second == pytest.approx(epsilon((EVENT, 2), (EVALUATION, 1)))
        account.charge_release("evaluation", 2, EVALUATION)
        last = account.charge_release("selection", 2, SELECTION)
        everything = (EVENT, 2), (EVALUATION, 2), (SELECTION, 1)
        assert last == pytest.approx(epsilon(*everything))
        assert dict(account.groups(2)) == dict(everything)
        # Releases count from their round on.
        assert account.epsilon_after(1) == pytest.approx(first)
        assert account.accountant == "pld"
        if shares:
            assert account.shared_epsilon(2) == pytest.approx(last)
    assert lines(tmp_path / "ledger.jsonl")[2:4] == [
        {"release": "evaluation", "round": 1},
        {"round": 2},
    ]
    with opened(tmp_path, shares) as account:
        assert account.epsilon_after(2) == pytest.approx(last)
        assert account.charge_release("selection", 2, SELECTION) == pytest.approx(last)
        assert len(account.ledger.entries) == 5


def test_a_release_that_is_repeated_after_a_restart_is_charged_again(tmp_path):
    with opened(tmp_path) as account:
        account.charge(1)
        account.charge_release("evaluation", 1, EVALUATION)
        account.recharge_after(1)
        # With new noise, also after the round that is kept.
        found = account.charge_release("evaluation", 1, EVALUATION)
        assert found == pytest.approx(epsilon((EVENT, 1), (EVALUATION, 2)))
        releases = [e for e in account.ledger.entries if isinstance(e, Release)]
        assert releases == [Release("evaluation", 1, EVALUATION)] * 2


def test_an_event_by_renyi_divergences_alone_takes_the_account_there(tmp_path):
    search = privacy.HyperparameterSearchEvent(EVALUATION, 3.0)
    with opened(tmp_path) as account:
        account.charge(1)
        found = account.charge_release("search", 1, search)
        assert account.accountant == "rdp"
        assert found == pytest.approx(
            composed_epsilon([(EVENT, 1), (search, 1)], DELTA, "rdp")
        )
        # Two searches are not one search over two rounds.
        account.charge(2)
        account.charge_release("search", 2, search)
        expected = composed_epsilon([(EVENT, 2), (search, 1), (search, 1)], DELTA)
        assert account.epsilon_after(2) == pytest.approx(expected)
        assert account.shared_epsilon(2) == pytest.approx(expected)


@pytest.mark.parametrize("shares", [False, True])
def test_a_release_beyond_the_budget_is_not_charged(tmp_path, shares):
    budget = epsilon((EVENT, 1), (EVALUATION, 1)) * 1.0001
    with opened(tmp_path, shares, budget_epsilon=budget) as account:
        account.charge(1)
        assert account.charge_release("evaluation", 1, EVALUATION) <= budget
        assert account.charge_release("selection", 1, SELECTION) is None
        assert len(account.ledger.entries) == 2
        assert account.would_exceed(2)
        # What is recorded may be repeated.
        assert account.charge_release("evaluation", 1, EVALUATION) <= budget


@pytest.mark.parametrize(
    ("name", "number", "event", "message"),
    [
        ("evaluation", 2, EVALUATION, "evaluation after round 2 cannot be recorded"),
        ("evaluation", 1, SELECTION, "would repeat it as"),
        ("", 1, SELECTION, "name of a release must not be empty"),
        (
            "other",
            1,
            privacy.PureEvent(0.5, "replace_one"),
            "neighbouring_relation 'replace_one', but the rounds of this run have",
        ),
        (
            "other",
            1,
            RecordEvent(1.0, 8.0, 4, 1, (("a", 90),)),
            "unit 'record', but the rounds of this run have 'client'",
        ),
    ],
)
def test_impossible_releases_are_refused_in_one_line(
    tmp_path, name, number, event, message
):
    with opened(tmp_path) as account:
        account.charge(1)
        account.charge_release("evaluation", 1, EVALUATION)
        with pytest.raises(privacy.ChargeError, match=message) as refused:
            account.charge_release(name, number, event)
        assert "\n" not in str(refused.value)
        assert len(account.ledger.entries) == len(account.shared.entries) == 2


class TestPlans:
    def test_the_target_covers_the_planned_releases(self):
        releases = [(EVALUATION, 5), (SELECTION, 1)]
        made = plan(
            noise_multiplier=None, target_epsilon=4.0, planned_releases=releases
        )
        alone = plan(noise_multiplier=None, target_epsilon=4.0)
        assert made.noise_multiplier > alone.noise_multiplier
        groups = [(made.event, 10), *releases]
        assert epsilon(*groups) <= 4.0
        less = made.event.with_noise(made.noise_multiplier - 0.001)
        assert epsilon((less, 10), *releases) > 4.0
        assert made.planned_releases == tuple(releases)

    def test_planned_epsilon_counts_each_release_once(self, tmp_path):
        releases = [(EVALUATION, 2)]
        expected = pytest.approx(epsilon((EVENT, 10), (EVALUATION, 2)))
        with opened(tmp_path, planned_releases=releases) as account:
            assert account.planned_epsilon() == expected
            assert account.planned_shared_total().epsilon == expected
            for number in (1, 2):
                account.charge(number)
                account.charge_release("evaluation", number, EVALUATION)
                assert account.planned_epsilon() == expected
                assert account.planned_shared_total().epsilon == expected
            # An evaluation more than was planned.
            account.charge_release("more", 2, EVALUATION)
            assert account.planned_epsilon() == pytest.approx(
                epsilon((EVENT, 10), (EVALUATION, 3))
            )

    @pytest.mark.parametrize(
        ("release", "message"),
        [
            (privacy.PureEvent(0.5, "zero_out"), "neighbouring_relation 'zero_out'"),
            (
                privacy.PureEvent(0.5, "add_or_remove_one", "record"),
                "unit 'record', but the rounds of this run have 'client'",
            ),
        ],
    )
    def test_releases_of_another_relation_or_unit_are_refused(self, release, message):
        with pytest.raises(ValueError, match=message):
            plan(planned_releases=[(release, 1)])

    def test_releases_above_the_target_are_refused(self):
        with pytest.raises(ValueError, match="target_epsilon=1: no noise multiplier"):
            plan(
                noise_multiplier=None,
                target_epsilon=1.0,
                planned_releases=[(privacy.PureEvent(2.0, "add_or_remove_one"), 1)],
            )


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_a_release_keeps_the_budget_by_the_runs_accountant(
    tmp_path, shares, accountant
):
    groups = [(EVENT, 3), (SELECTION, 1)]
    by = {name: composed_epsilon(groups, DELTA, name) for name in ("pld", "rdp")}
    # Between the two: Rényi DP is the larger bound.
    budget = (by["pld"] + by["rdp"]) / 2
    with opened(tmp_path, shares, accountant=accountant, budget_epsilon=budget) as own:
        for number in (1, 2, 3):
            assert own.charge(number) is not None
        epsilon = own.charge_release("selection", 3, SELECTION)
        if accountant == "rdp":
            assert epsilon is None
            assert own.epsilon_after(3) < budget
        else:
            assert epsilon == pytest.approx(by["pld"], rel=1e-3)
