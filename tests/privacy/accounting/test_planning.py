"""What a plan costs, how many rounds are left, and which noise reaches a target."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from tfl_research import privacy
from tfl_research.privacy.accounting import planning, search
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.accounting.events.record_event import RecordEvent
from tfl_research.privacy.accounting.events.search_event import (
    HyperparameterSearchEvent,
)

# Closed form: ε of n rounds is that of one Gaussian with noise z / √n.
PLAIN = GaussianEvent("none", 10.0, 1.0, 1000, 10.0, "add_or_remove_one")
SAMPLED = GaussianEvent("poisson", 1.0, 0.02, 1000, 20.0, "add_or_remove_one")
DELTA = 1e-5


def test_cost_composes_with_what_was_spent():
    found = planning.cost(PLAIN, 20, DELTA, None, [(PLAIN, 5)])
    curve = PLAIN.epsilon_curve(25, DELTA, "pld")
    assert found.before == pytest.approx(curve[4])
    assert found.alone == pytest.approx(curve[19])
    assert found.together == pytest.approx(curve[24])
    # Never added.
    assert found.together < found.before + found.alone
    assert planning.cost(PLAIN, 0, DELTA) == planning.Cost(0.0, 0.0, 0.0)


@pytest.mark.parametrize("event", [PLAIN, SAMPLED])
@pytest.mark.parametrize("spent", [0, 7])
def test_rounds_within_a_budget(event, spent):
    curve = event.epsilon_curve(400, DELTA, "pld")
    before = [(event, spent)] if spent else []
    for rounds in (1, 2, 57, 300):
        budget = (curve[rounds + spent - 1] + curve[rounds + spent]) / 2
        found = planning.rounds_within(event, budget, DELTA, None, before)
        assert found == rounds


def test_no_round_fits():
    first = PLAIN.epsilon(1, DELTA, "pld")
    assert planning.rounds_within(PLAIN, first / 2, DELTA) == 0
    assert planning.rounds_within(PLAIN, first, DELTA, None, [(PLAIN, 9)]) == 0
    silent = dataclasses.replace(PLAIN, noise_multiplier=0.0)
    assert planning.rounds_within(silent, 100.0, DELTA) == 0


def test_rounds_without_end_are_cut_off():
    quiet = dataclasses.replace(PLAIN, noise_multiplier=1e6)
    assert planning.rounds_within(quiet, 8.0, DELTA) == planning.MOST_ROUNDS


@pytest.mark.parametrize("target", [0.3, 2.0, 30.0])
def test_noise_for_a_target_is_the_calibrated_one(target):
    found = planning.noise_for(PLAIN.with_noise, target, 50, DELTA)
    assert found == privacy.calibrate_event(PLAIN, target, 50, DELTA)


def test_noise_for_a_target_with_sampling():
    found = planning.noise_for(SAMPLED.with_noise, 3.0, 200, DELTA)
    assert found == privacy.calibrate_event(SAMPLED, 3.0, 200, DELTA)


def test_noise_on_top_of_what_was_spent_is_the_least():
    spent = [(PLAIN, 30)]
    found = planning.noise_for(PLAIN.with_noise, 4.0, 50, DELTA, None, spent)

    def epsilon(noise):
        planned = dataclasses.replace(PLAIN, noise_multiplier=noise)
        return privacy.composed_epsilon([*spent, (planned, 50)], DELTA)

    assert epsilon(found) <= 4.0 < epsilon(found - 0.001)
    assert found > planning.noise_for(PLAIN.with_noise, 4.0, 50, DELTA)


def test_noise_for_a_search():
    search = HyperparameterSearchEvent(PLAIN, 10.0)
    found = planning.noise_for(search.with_noise, 4.0, 50, DELTA)

    def epsilon(noise):
        return search.with_noise(noise).epsilon(50, DELTA, "rdp")

    assert epsilon(found) <= 4.0 < epsilon(found - 0.001)
    assert found > planning.noise_for(PLAIN.with_noise, 4.0, 50, DELTA, "rdp")


def test_a_target_below_what_was_spent_cannot_be_met():
    spent = [(PLAIN, 100)]
    with pytest.raises(ValueError, match=r"no noise multiplier up to 100000 keeps 5 "):
        planning.noise_for(PLAIN.with_noise, 0.5, 5, DELTA, None, spent)


@pytest.mark.parametrize(
    ("value", "limit", "inside"),
    [
        (lambda n: n, 1.5, 1),
        (lambda n: n, 500.0, 500),
        (lambda n: n**5, 6.0, 1),
        (lambda n: n**5, 1e9, 63),
        (lambda n: math.log(1 + n), 6.0, 402),
        (lambda n: 0 if n < 700 else 10**9, 1.5, 699),
        (lambda n: math.inf if n > 3 else 1, 1.5, 3),
    ],
)
def test_the_boundary_of_any_monotone_curve(value, limit, inside):
    asked = []

    def noted(number):
        asked.append(number)
        return value(number)

    assert search.boundary(noted, limit, 1, 1024) == inside
    assert search.boundary(lambda n: value(1025 - n), limit, 1024, 1) == 1025 - inside
    # Interpolation never needs many more steps than halving, and asks nothing twice.
    assert len(asked) == len(set(asked)) <= 30


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: planning.cost(PLAIN, -1, DELTA), "rounds must be at least 0"),
        (lambda: planning.cost(PLAIN, 1, 1.0), "delta must be above 0"),
        (lambda: planning.rounds_within(PLAIN, 0.0, DELTA), "budget_epsilon must be"),
        (
            lambda: planning.noise_for(PLAIN.with_noise, np.inf, 1, DELTA),
            "target_epsilon must be",
        ),
        (
            lambda: planning.noise_for(PLAIN.with_noise, 1.0, 0, DELTA),
            "rounds must be at least 1",
        ),
        (
            lambda: planning.cost(
                PLAIN,
                1,
                DELTA,
                None,
                [(RecordEvent(1.0, 8.0, 4, 1, (("a", 90),)), 1)],
            ),
            "different units of privacy",
        ),
    ],
)
def test_bad_values_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
