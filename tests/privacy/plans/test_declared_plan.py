"""An event that a process declares must cover the cohorts that it is charged for."""

from __future__ import annotations

import json

import pytest

from tfl_research import privacy, sampling
from tfl_research.errors import SettingError
from tfl_research.privacy import DeclaredPlan, GaussianEvent, PureEvent, TreeEvent

CLIENTS = [f"client {number}" for number in range(20)]
POISSON = sampling.Poisson(CLIENTS, 5, 1).amplification
FIXED = sampling.FixedSize(CLIENTS, 5, 1).amplification
FULL = sampling.Full(CLIENTS).amplification
SHUFFLED = sampling.Shuffled(CLIENTS, 5, 1).amplification
APART = sampling.MinSeparation(CLIENTS, 4, 1, 5).amplification


def gaussian(sampling_kind, rate, relation, population=20):
    return GaussianEvent(
        sampling_kind, 1.0, rate, population, rate * population, relation
    )


def plan(event, amplification, **options):
    options.setdefault("rounds", 10)
    options.setdefault("repeatable", False)
    return DeclaredPlan.create(event, amplification, delta=1e-3, **options)


@pytest.mark.parametrize(
    ("event", "amplification"),
    [
        (GaussianEvent.of(1.0, POISSON), POISSON),
        (GaussianEvent.of(1.0, FIXED), FIXED),
        (GaussianEvent.of(1.0, FULL), FULL),
        (GaussianEvent.of(1.0, SHUFFLED), SHUFFLED),
        # A larger rate is an upper bound; a population does not matter to Poisson.
        (gaussian("poisson", 0.5, "add_or_remove_one", 1000), POISSON),
        # Without amplification, over the same clients in both populations.
        (gaussian("none", 1.0, "zero_out"), FIXED),
        (gaussian("none", 1.0, "replace_one"), POISSON),
        (TreeEvent.of(2.0, APART, restart_every=5), APART),
        (PureEvent(0.5, "replace_one"), FULL),
    ],
)
def test_events_that_cover_the_cohorts(event, amplification):
    made = plan(event, amplification)
    assert made.event == event
    json.dumps(made.record(), allow_nan=False)
    made.check_measured({})


@pytest.mark.parametrize(
    ("event", "amplification", "match"),
    [
        (
            gaussian("poisson", 0.1, "add_or_remove_one"),
            POISSON,
            "a sampling rate of 0.1",
        ),
        (GaussianEvent.of(1.0, POISSON), FIXED, "it assumes poisson sampling"),
        (GaussianEvent.of(1.0, FIXED), POISSON, "it assumes fixed_size sampling"),
        (gaussian("none", 1.0, "add_or_remove_one"), FIXED, "by add_or_remove_one"),
        (
            gaussian("fixed_size", 0.25, "replace_one", 40),
            FIXED,
            "it assumes 40 clients",
        ),
        (TreeEvent.of(2.0, APART, restart_every=5), FULL, "a min_separation of 5"),
        (PureEvent(0.5, "replace_one", unit="record"), FULL, "whose unit is a client"),
    ],
)
def test_events_that_do_not(event, amplification, match):
    with pytest.raises(SettingError, match=f"event: .*{match}"):
        plan(event, amplification)


def test_a_class_of_events_must_be_registered():
    class Mine(GaussianEvent):
        kind = "mine, unregistered"

    with pytest.raises(SettingError, match="is not registered"):
        plan(Mine.of(1.0, POISSON), POISSON)


def test_the_budget_and_the_accountant():
    event = GaussianEvent.of(1.0, POISSON)
    with pytest.raises(SettingError, match="the first round alone costs"):
        plan(event, POISSON, budget_epsilon=0.01)
    with pytest.raises(SettingError, match="accountant=gdp"):
        plan(event, POISSON, accountant="gdp")
    assert plan(event, POISSON).accountant == "pld"
    assert plan(event, POISSON, accountant="rdp").accountant == "rdp"


def test_an_account_charges_the_plan(tmp_path):
    event = GaussianEvent.of(1.0, POISSON)
    with privacy.Ledger(tmp_path / "ledger.jsonl") as ledger:
        account = privacy.RoundAccount(ledger, plan(event, POISSON))
        epsilon = [account.charge(number) for number in (1, 2, 3)][-1]
    assert epsilon == privacy.composed_epsilon([(event, 3)], 1e-3, "pld")
