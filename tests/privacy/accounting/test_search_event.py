"""The cost of a hyperparameter search, against the paper's corollaries and
dp-accounting."""

from __future__ import annotations

import dataclasses
import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import rdp
from scipy import special

from tfl_research import privacy
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.accounting.events.search_event import (
    HyperparameterSearchEvent,
)
from tfl_research.privacy.accounting.losses import renyi

# ρ = T / (2 z²) per run: Gaussian noise without amplification.
GAUSSIAN = GaussianEvent("none", 4.0, 1.0, 100, 10.0, "add_or_remove_one")
SAMPLED = GaussianEvent("poisson", 1.0, 0.01, 1000, 10.0, "add_or_remove_one")
ORDERS = np.array([1.1, 1.5, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 256.0])


@dataclasses.dataclass(frozen=True)
class Pure:
    """ε-differential privacy, which bounds the divergence of every order."""

    epsilon: float

    def rdp(self, rounds, orders):
        return np.full(len(orders), rounds * self.epsilon)


@pytest.mark.parametrize("shape", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("mean", [20.0, 1000.0])
def test_pure_differential_privacy_costs_two_plus_eta_times(shape, mean):
    # Theorem 2 with λ and λ̂ unbounded: (2 + η)ε whatever the mean; 3ε for the geometric
    # distribution is Liu and Talwar's (2019) bound.
    event = HyperparameterSearchEvent(Pure(0.25), mean, shape)
    found = event.rdp(2, np.array([1e12]))
    np.testing.assert_allclose(found, (2 + shape) * 0.5, rtol=1e-9)


@pytest.mark.parametrize("shape", [-0.5, 0.0, 0.5, 1.0, 5.0])
@pytest.mark.parametrize("rho", [0.01, 0.3])
def test_gaussian_runs_by_hand(shape, rho):
    """Runs of divergence ρλ: Theorem 2's bound is least at λ̂ = √(log(1/γ)/ρ), and at
    λ - 1 = √(log(mean)/ρ) for orders below that."""
    mean = 20.0
    base = dataclasses.replace(GAUSSIAN, noise_multiplier=math.sqrt(1 / (2 * rho)))
    event = HyperparameterSearchEvent(base, mean, shape)
    log_gamma, log_mean = math.log(event.gamma), math.log(mean)
    assert rho <= -log_gamma
    turning = 1 + math.sqrt(log_mean / rho)
    orders = np.array([1.1, 2.0, math.sqrt(-log_gamma / rho), turning, 50.0, 500.0])
    common = 2 * (1 + shape) * math.sqrt(-rho * log_gamma) - shape * rho
    expected = [
        common
        + (
            2 * math.sqrt(rho * log_mean)
            if order <= turning
            else rho * (order - 1) + log_mean / (order - 1)
        )
        for order in orders
    ]
    np.testing.assert_allclose(event.rdp(1, orders), expected, rtol=1e-9)


def dp_accountings(base, rounds, mean, shape, orders):
    accountant = rdp.RdpAccountant(orders=orders)
    runs = dp_accounting.SelfComposedDpEvent(base.to_dp_event(), rounds)
    accountant.compose(dp_accounting.dp_event.RepeatAndSelectDpEvent(runs, mean, shape))
    return accountant


@pytest.mark.parametrize("shape", [0.0, 1.0, 2.0])
def test_a_mean_near_one_costs_a_run(shape):
    # λ̂ = 1 in Theorem 2: ε + (1 + η)log(1/γ), the rest vanishes for large λ.
    event = HyperparameterSearchEvent(Pure(3.0), 1.0 + 1e-6, shape)
    found = event.rdp(1, np.array([1e12]))
    expected = 3.0 - (1 + shape) * math.log(event.gamma)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found[0] < 3.0 + 1e-5


@pytest.mark.parametrize("base", [GAUSSIAN, SAMPLED])
@pytest.mark.parametrize("mean", [1.5, 10.0, 300.0])
@pytest.mark.parametrize("shape", [0.0, 0.5, 1.0, 3.0])
def test_truncated_negative_binomial_agrees_with_dp_accounting(base, mean, shape):
    event = HyperparameterSearchEvent(base, mean, shape)
    # Order 1 stands for λ̂ = 1, which dp-accounting's default orders do not have.
    orders = list(renyi.default_orders())
    if not base.amplified:  # It has no divergence of order 1 for sampled ones.
        orders = [1.0, *orders]
    other = dp_accountings(base, 50, mean, shape, orders)
    assert event.epsilon(50, 1e-5, "rdp") == pytest.approx(
        other.get_epsilon(1e-5), rel=1e-6
    )


@pytest.mark.parametrize("base", [GAUSSIAN, SAMPLED])
@pytest.mark.parametrize("mean", [1.5, 10.0, 300.0])
def test_poisson_agrees_with_dp_accounting(base, mean):
    event = HyperparameterSearchEvent(base, mean, 0.0, "poisson")
    other = dp_accountings(base, 5, mean, math.inf, renyi.default_orders())
    # dp-accounting's divergences may decrease with the order; ours take the least
    # bound of the orders above, which is what monotonicity allows.
    least = np.minimum.accumulate(np.asarray(other.rdp)[::-1])[::-1]
    np.testing.assert_allclose(
        event.rdp(5, renyi.default_orders()), least, rtol=1e-6, atol=1e-12
    )


def test_poisson_by_hand():
    # Theorem 6 for a base of pure ε = log 2: at λ = 2, ε̂ = log 2, hence δ̂ = 0, and
    # ε' = ε + log μ / (λ - 1).
    base = Pure(math.log(2))
    event = HyperparameterSearchEvent(base, 8.0, 0.0, "poisson")
    # From a grid without large orders δ̂ is above 0; with one it vanishes.
    found = event.rdp(1, np.array([2.0, 1e9]))
    assert found[0] == pytest.approx(math.log(2) + math.log(8), rel=1e-6)


def test_costs_more_than_a_run_and_less_than_all_of_them():
    event = HyperparameterSearchEvent(SAMPLED, 30.0, 1.0)
    one = SAMPLED.epsilon(200, 1e-5, "rdp")
    all_runs = SAMPLED.epsilon(30 * 200, 1e-5, "rdp")
    found = event.epsilon(200, 1e-5, "rdp")
    assert one < found < 4 * one
    assert found < all_runs


def test_epsilon_curve_ends_at_epsilon_and_never_decreases():
    event = HyperparameterSearchEvent(GAUSSIAN, 10.0, 0.0)
    curve = event.epsilon_curve(20, 1e-6, "rdp")
    assert curve.shape == (20,)
    assert np.all(np.diff(curve) > 0)
    assert curve[-1] == pytest.approx(event.epsilon(20, 1e-6, "rdp"), rel=1e-12)


@pytest.mark.parametrize("shape", [-0.5, 0.0, 0.3, 1.0, 4.0])
@pytest.mark.parametrize("mean", [1.01, 3.0, 50.0])
def test_the_distribution_has_its_mean_and_total(shape, mean):
    event = HyperparameterSearchEvent(GAUSSIAN, mean, shape)
    found = event.probabilities(200_000)
    assert found[0] == 0
    assert found.sum() == pytest.approx(1, abs=1e-9)
    assert found @ np.arange(len(found)) == pytest.approx(mean, rel=1e-6)


def test_probabilities_by_hand():
    geometric = HyperparameterSearchEvent(GAUSSIAN, 4.0, 1.0)
    assert geometric.gamma == pytest.approx(0.25)
    np.testing.assert_allclose(
        geometric.probabilities(3), [0, 0.25, 0.1875, 0.140625], rtol=1e-9
    )
    logarithmic = HyperparameterSearchEvent(GAUSSIAN, 3.0, 0.0)
    gamma = logarithmic.gamma
    np.testing.assert_allclose(
        logarithmic.probabilities(3)[1:],
        [(1 - gamma) ** k / (k * math.log(1 / gamma)) for k in (1, 2, 3)],
        rtol=1e-9,
    )
    poisson = HyperparameterSearchEvent(GAUSSIAN, 2.0, 0.0, "poisson")
    k = np.arange(20)
    np.testing.assert_allclose(
        poisson.probabilities(19), np.exp(-2 + k * np.log(2) - special.gammaln(k + 1))
    )


@pytest.mark.parametrize(
    "event",
    [
        HyperparameterSearchEvent(GAUSSIAN, 5.0, 1.0),
        HyperparameterSearchEvent(GAUSSIAN, 5.0, 0.0),
        HyperparameterSearchEvent(GAUSSIAN, 5.0, 0.0, "poisson"),
    ],
)
def test_draws_follow_the_distribution(event):
    generator = np.random.default_rng(7)
    drawn = np.array([event.draw_repetitions(generator) for _ in range(2000)])
    expected = event.probabilities(10)
    found = np.bincount(drawn, minlength=11)[:11] / len(drawn)
    # Five standard deviations of each share: false alarms below 1e-5 in all.
    slack = 5 * np.sqrt(expected * (1 - expected) / len(drawn)) + 1e-12
    assert np.all(np.abs(found - expected) < slack)


def test_is_an_event_like_the_others():
    event = HyperparameterSearchEvent(SAMPLED, 10.0, 0.0)
    assert privacy.event_from_dict(event.to_dict()) == event
    assert hash(privacy.event_from_dict(event.to_dict())) == hash(event)
    assert (event.unit, event.neighbouring_relation) == ("client", "add_or_remove_one")
    assert not event.composes_by_round
    text = "\n".join(event.description())
    assert "2110.03620, Theorem 2" in text
    assert "logarithmic distribution of mean 10" in text
    assert "Each run: " in text
    with pytest.raises(ValueError, match=r"'pld' has no bound.*use 'rdp'"):
        event.epsilon_curve(3, 1e-5, "pld")


def test_searches_compose_as_runs_and_not_as_rounds():
    event = HyperparameterSearchEvent(SAMPLED, 10.0, 1.0)
    orders = renyi.default_orders()
    both = privacy.composed_epsilon([(event, 30), (event, 30), (SAMPLED, 40)], 1e-5)
    divergences = 2 * event.rdp(30, orders) + SAMPLED.rdp(40, orders)
    assert both == pytest.approx(
        float(renyi.rdp_epsilons(orders, divergences[np.newaxis], 1e-5)[0]), rel=1e-12
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mean": 1.0}, "mean must be above 1"),
        ({"mean": math.nan}, "mean must be above 1"),
        ({"mean": math.inf}, "mean must be above 1"),
        ({"mean": 2.0, "shape": -1.0}, "shape must be above -1"),
        ({"mean": 2.0, "shape": math.nan}, "shape must be above -1"),
        ({"mean": 2.0, "distribution": "binomial"}, "distribution must be one of"),
        ({"mean": 2.0, "distribution": "poisson"}, "shape must be 0 with 'poisson'"),
    ],
)
def test_bad_values_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        HyperparameterSearchEvent(GAUSSIAN, **fields)


def test_no_noise_is_no_privacy():
    base = dataclasses.replace(GAUSSIAN, noise_multiplier=0.0)
    for distribution in ("truncated_negative_binomial", "poisson"):
        event = HyperparameterSearchEvent(base, 3.0, 0.0, distribution)
        assert event.epsilon(1, 1e-5, "rdp") == math.inf
