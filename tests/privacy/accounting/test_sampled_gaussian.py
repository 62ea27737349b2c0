"""The contour method against direct convolution and a one-round closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from tfl_research.privacy.accounting.losses.loss_distribution import (
    LossDistribution,
    loss_distribution,
)
from tfl_research.privacy.accounting.losses.sampled_gaussian import (
    DirectionSolver,
    SampledGaussianCurve,
)


def epsilon_of(probabilities, losses, infinity_mass, delta):
    """Smallest ε with δ(ε) <= delta, summed with math.fsum."""

    def excess(epsilon):
        sticks = -np.expm1(np.minimum(epsilon - losses, 0.0)) * probabilities
        return math.fsum(sticks) + infinity_mass - delta

    return optimize.brentq(excess, 0, losses[-1], xtol=1e-14)


@pytest.mark.parametrize("delta", [1e-3, 1e-6, 1e-9, 1e-12])
@pytest.mark.parametrize("direction", ["remove", "add"])
@pytest.mark.parametrize(("z", "q"), [(1.0, 0.05), (0.7, 0.3)])
def test_sixteen_rounds_are_the_direct_convolution(z, q, direction, delta):
    # np.convolve adds positive numbers: relative accuracy at any δ.
    loss = LossDistribution(z, q, direction=direction, interval=5e-3)
    probabilities, lower = loss.probabilities, loss.lower
    for _ in range(4):
        probabilities, lower = np.convolve(probabilities, probabilities), 2 * lower
    losses = (lower + np.arange(len(probabilities))) * loss.interval
    infinite = -math.expm1(16 * math.log1p(-loss.infinity_mass))
    expected = epsilon_of(probabilities, losses, infinite, delta)
    found = DirectionSolver(loss).solve(np.array([16]), delta)[0]
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("delta", [1e-3, 1e-9])
@pytest.mark.parametrize("direction", ["remove", "add"])
@pytest.mark.parametrize(("z", "q"), [(1.0, 0.1), (0.5, 0.01), (3.0, 0.5)])
def test_one_round_is_the_closed_form(z, q, direction, delta):
    adds = direction == "add"

    def excess(epsilon):
        sign = -1 if adds else 1
        inside = math.expm1(sign * epsilon) + q
        if inside <= 0:
            return -delta
        cut = z**2 * math.log(inside / q) + 0.5
        tail = stats.norm.cdf if adds else stats.norm.sf
        without, with_client = tail(cut / z), tail((cut - 1) / z)
        mixture = (1 - q) * without + q * with_client
        first, second = (without, mixture) if adds else (mixture, without)
        return first - math.exp(epsilon) * second - delta

    # The lattice of 1e-4 is pessimistic: by about its square, and by up to its
    # interval next to the largest loss there is, -log(1 - q) when a client is added.
    found = DirectionSolver(LossDistribution(z, q, direction=direction)).solve(
        np.array([1]), delta
    )[0]
    expected = 0.0 if excess(0.0) <= 0 else optimize.brentq(excess, 0, 60, xtol=1e-13)
    assert -1e-9 <= max(found, 0.0) - expected < (1e-4 if adds else 1e-6)


@pytest.mark.parametrize("direction", ["remove", "add"])
def test_loss_is_a_distribution_with_the_right_ratio(direction):
    loss = LossDistribution(0.9, 0.2, direction=direction)
    # Rounding may only add mass, at losses that are certain anyway.
    total = loss.probabilities.sum() + loss.infinity_mass
    assert 1 - 1e-12 < total < 1 + 1e-6
    # E[e^{-loss}] is the other data set's mass.
    ratio = (loss.probabilities * np.exp(-loss.losses)).sum()
    assert 1 - 1e-9 < ratio < 1 + (1e-3 if direction == "add" else 1e-6)
    assert loss.probabilities.min() >= 0


@pytest.mark.parametrize("larger", ["remove", "add"])
def test_epsilon_is_that_of_the_worse_direction(larger, monkeypatch):
    # For Gaussians "remove" was the worse wherever it was tried, which is no proof.
    losses = {d: loss_distribution(1.0, 0.1, d, 1e-4) for d in ("remove", "add")}
    monkeypatch.setattr(
        DirectionSolver,
        "solve",
        lambda self, rounds, delta: np.full(
            len(rounds), 3.0 if self.loss is losses[larger] else 1.0
        ),
    )
    curve = SampledGaussianCurve(1.0, 0.1, 1e-6)
    assert curve.epsilon(5) == 3.0
    np.testing.assert_array_equal(curve.block(4), [3.0, 3.0])


def test_blocks_agree_with_single_solutions():
    curve = SampledGaussianCurve(1.0, 0.02, 1e-6)
    first, values = 1, []
    while first <= 60:
        values.extend(curve.block(first))
        first += max(1, first // 2)
    for rounds in (1, 2, 5, 17, 40, 60):
        alone = SampledGaussianCurve(1.0, 0.02, 1e-6).epsilon(rounds)
        assert values[rounds - 1] == pytest.approx(alone, abs=1e-9)


def test_infinity_mass_above_delta_is_infinite():
    loss = LossDistribution(1.0, 0.5, direction="remove")
    assert np.isposinf(
        DirectionSolver(loss).solve(np.array([1, 2]), loss.infinity_mass / 2)
    ).all()


def test_a_coarser_lattice_is_used_for_enormous_losses():
    loss = LossDistribution(0.02, 0.5, direction="remove")
    assert loss.interval > 1e-4
    assert len(loss.losses) < 2**21
    epsilon = DirectionSolver(loss).solve(np.array([1]), 1e-5)[0]
    # Without sampling: μ²/2 + μ·Φ^-1(1 - δ) and a little for μ = 50.
    assert 1250 < epsilon < 1250 + 50 * 4.5
