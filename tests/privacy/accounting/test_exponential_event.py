"""The event of the exponential mechanism."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from tfl_research import privacy
from tfl_research.privacy.accounting.events.exponential_event import ExponentialEvent

EVENT = ExponentialEvent(1.0, 50, "add_or_remove_one")


def loss_pairs(epsilon, seed):
    """Choices of two neighbours, whose scores differ by the sensitivity."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=6)
    moved = scores + generator.choice([-1.0, 1.0], size=6)
    chosen = []
    for values in (scores, moved):
        weights = np.exp(epsilon * values / 2)
        chosen.append(weights / weights.sum())
    return chosen


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 5.0])
def test_divergences_bound_those_of_the_mechanism(epsilon, seed):
    p, q = loss_pairs(epsilon, seed)
    assert np.abs(np.log(p / q)).max() <= epsilon + 1e-12
    orders = np.array([1.5, 2.0, 8.0, 64.0])
    exact = [
        special.logsumexp(a * np.log(p) + (1 - a) * np.log(q)) / (a - 1) for a in orders
    ]
    bound = ExponentialEvent(epsilon, 50, "zero_out").rdp(1, orders)
    assert np.all(np.array(exact) <= bound + 1e-12)


def test_epsilon_is_the_sum_or_less():
    curve = EVENT.epsilon_curve(400, 1e-5, "rdp")
    assert curve[0] == 1.0
    assert curve[1] == 2.0
    # Many choices: about ρ + 2 √(ρ log(1/δ)), ρ = T ε² / 8.
    rho = 400 / 8
    assert curve[-1] < 1.05 * (rho + 2 * math.sqrt(rho * math.log(1e5)))
    assert curve[-1] < 400
    assert np.all(np.diff(curve) >= 0)
    assert EVENT.zcdp(400) == pytest.approx(rho)


def test_it_is_read_back_from_a_ledger_and_composes():
    assert privacy.event_from_dict(EVENT.to_dict()) == EVENT
    rounds = privacy.GaussianEvent("none", 8.0, 1.0, 50, 50.0, "add_or_remove_one")
    alone = privacy.composed_epsilon([(rounds, 10)], 1e-5, "rdp")
    both = privacy.composed_epsilon([(rounds, 10), (EVENT, 1)], 1e-5)
    assert alone < both < alone + 1.5
    assert any("exponential mechanism" in line for line in EVENT.description())


@pytest.mark.parametrize(
    ("epsilon", "population", "relation"),
    [
        (0.0, 5, "zero_out"),
        (math.inf, 5, "zero_out"),
        (math.nan, 5, "zero_out"),
        (1.0, 0, "zero_out"),
        (1.0, 5, "add_one"),
    ],
)
def test_refusals(epsilon, population, relation):
    with pytest.raises(ValueError, match="must be"):
        ExponentialEvent(epsilon, population, relation)
