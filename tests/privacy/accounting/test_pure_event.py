"""Releases of pure differential privacy: by hand, and against dp-accounting."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld

from tfl_research import privacy
from tfl_research.privacy.accounting.losses import mixed_gaussians, pure, renyi

EVENT = privacy.PureEvent(0.5, "add_or_remove_one")
SAMPLED = privacy.GaussianEvent.poisson(1.0, 0.05)
INTERVAL = 1e-4


def response(epsilon, count):
    """dp-accounting's loss of randomized response on two values."""
    noise = 2 / (1 + math.exp(epsilon))
    one = pld.from_randomized_response(noise, 2, value_discretization_interval=INTERVAL)
    return one.self_compose(count)


def exact_delta(epsilon, count, bound):
    """The hockey-stick divergence over all outputs of so many responses."""
    truth = math.exp(epsilon) / (1 + math.exp(epsilon))
    total = 0.0
    for outputs in itertools.product([0, 1], repeat=count):
        ones = sum(outputs)
        first = truth**ones * (1 - truth) ** (count - ones)
        second = truth ** (count - ones) * (1 - truth) ** ones
        total += max(0.0, first - math.exp(bound) * second)
    return total


@pytest.mark.parametrize("epsilon", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("delta", [1e-2, 1e-4])
def test_epsilon_is_where_delta_is_met(epsilon, count, delta):
    found = pure.epsilon_of(epsilon, count, delta)
    assert 0 <= found <= count * epsilon
    if found > 0:
        assert exact_delta(epsilon, count, found) == pytest.approx(delta, rel=1e-6)
    else:
        assert exact_delta(epsilon, count, 0.0) <= delta * (1 + 1e-9)


@pytest.mark.parametrize(("epsilon", "count"), [(0.5, 3), (0.1, 50), (1.0, 10)])
def test_against_dp_accounting(epsilon, count):
    expected = response(epsilon, count).get_epsilon_for_delta(1e-6)
    found = pure.epsilon_of(epsilon, count, 1e-6)
    # dp-accounting rounds each loss up to its lattice.
    assert expected - 2 * count * INTERVAL <= found <= expected
    mixed = mixed_gaussians.mixed_epsilon([], 1e-6, pure=[(epsilon, count)])
    assert found * (1 - 1e-9) <= mixed <= expected


def test_together_with_sampled_gaussians():
    gaussians = pld.from_gaussian_mechanism(
        1.0, sampling_prob=0.05, value_discretization_interval=INTERVAL
    ).self_compose(100)
    both = gaussians.compose(response(0.3, 4)).get_epsilon_for_delta(1e-5)
    event = privacy.PureEvent(0.3, "add_or_remove_one")
    found = privacy.composed_epsilon([(SAMPLED, 100), (event, 4)], 1e-5)
    assert found == pytest.approx(both, abs=1e-3)
    by_rdp = privacy.composed_epsilon([(SAMPLED, 100), (event, 4)], 1e-5, "rdp")
    assert found < by_rdp
    assert found > privacy.composed_epsilon([(SAMPLED, 100)], 1e-5)


def test_divergences_are_those_of_randomized_response():
    orders = np.array([1.5, 2.0, 8.0, 64.0])
    truth = math.exp(0.5) / (1 + math.exp(0.5))
    expected = [
        math.log(
            truth**a * (1 - truth) ** (1 - a) + (1 - truth) ** a * truth ** (1 - a)
        )
        / (a - 1)
        for a in orders
    ]
    np.testing.assert_allclose(EVENT.rdp(1, orders), expected, rtol=1e-12)
    np.testing.assert_allclose(EVENT.rdp(3, orders), 3 * np.array(expected))
    # Below both bounds of Bun and Steinke 2016: ε, and α ε² / 2.
    assert np.all(EVENT.rdp(1, orders) <= np.minimum(0.5, orders * 0.5**2 / 2))
    assert EVENT.zcdp(4) == 0.5


@pytest.mark.parametrize("power", range(3, 41))
def test_no_delta_makes_it_dearer_than_the_sum(power):
    delta = 10.0**-power
    found = [EVENT.epsilon(3, delta, name) for name in EVENT.accountants]
    assert 1.4 < found[0] <= found[1] <= 1.5
    orders = renyi.default_orders()
    divergences = EVENT.rdp(3, orders)[np.newaxis]
    assert found[1] <= renyi.rdp_epsilons(orders, divergences, delta)[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((0.0, "zero_out"), "epsilon_of_release must be above 0"),
        ((math.inf, "zero_out"), "epsilon_of_release must be above 0"),
        ((1.0, ""), "neighbouring_relation must not be empty"),
        ((1.0, "zero_out", "house"), "unit must be 'client' or 'record'"),
    ],
)
def test_impossible_values_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        privacy.PureEvent(*fields)


def test_reads_back():
    event = privacy.PureEvent(0.5, "zero_out", "client", 90)
    assert privacy.event_from_dict(event.to_dict()) == event
    assert event.num_clients == 90
    assert (event.unit, EVENT.num_clients) == ("client", None)
