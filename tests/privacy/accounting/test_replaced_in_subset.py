"""Cohorts of a fixed size under replace-one, against pairs of real populations.

The bound must hold for every pair of populations, also where the worst pair of one
round is not that of the next.
"""

from __future__ import annotations

import itertools
import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import rdp
from scipy import optimize, stats

from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.accounting.losses import renyi
from tfl_research.privacy.accounting.losses.loss_distribution import (
    LossDistribution,
    tilt,
)
from tfl_research.privacy.accounting.losses.mixed_gaussians import mixed_epsilon
from tfl_research.privacy.accounting.losses.sampled_gaussian import DirectionSolver

SETTINGS = [(1.0, 0.1), (0.5, 0.3), (2.0, 0.5), (0.5, 0.05), (4.0, 0.9)]
LEVELS = np.linspace(-3, 3, 61)


def hockey_sticks(loss, levels):
    """δ(ε) of a discretised loss."""
    sticks = -np.expm1(np.minimum(levels[:, np.newaxis] - loss.losses, 0.0))
    return sticks @ loss.probabilities + loss.infinity_mass


def outputs(values, size, sigma, grid):
    """Density of the noised sum of a random subset: `[grid]`."""
    sums = [sum(chosen) for chosen in itertools.combinations(values, size)]
    return np.mean([stats.norm.pdf(grid, total, sigma) for total in sums], axis=0)


def measured(first, second, step):
    """Hockey-stick divergences of two densities at `LEVELS`."""
    excess = first - np.exp(LEVELS)[:, np.newaxis] * second
    return np.maximum(excess, 0).sum(axis=1) * step


@pytest.mark.parametrize(("population", "cohort"), [(2, 1), (4, 2), (5, 4), (6, 1)])
def test_curve_bounds_every_pair_of_small_populations(population, cohort):
    """Scalars within [-1, 1], noise z = 1.2; 40 random pairs and the extreme ones."""
    z, step = 1.2, 2e-3
    grid = np.arange(-14, 14, step)
    # A lattice that holds LEVELS, so that the curve joins no points at them.
    loss = LossDistribution(
        z / 2, cohort / population, direction="replace", interval=0.1
    )
    bound = hockey_sticks(loss, LEVELS)
    generator = np.random.default_rng(population)
    pairs = [(generator.uniform(-1, 1, population), x) for x in (-1, 1)] * 20
    extremes = [(np.full(population, x), -x) for x in (-1.0, 1.0)]
    for values, other in pairs + extremes:
        replaced = np.array([other, *values[1:]])
        first = outputs(values, cohort, z, grid)
        second = outputs(replaced, cohort, z, grid)
        for one, two in ((first, second), (second, first)):
            assert (measured(one, two, step) <= bound + 1e-6).all()
    # And no looser than it must be: a client that disagrees with everybody else.
    values = np.full(population, -1.0)
    disagrees = outputs(np.array([1.0, *values[1:]]), cohort, z, grid)
    agree = outputs(values, cohort, z, grid)
    reached = measured(disagrees, agree, step)[LEVELS >= 0]
    np.testing.assert_allclose(reached, bound[LEVELS >= -1e-12], atol=2e-6)


def composed(losses):
    """ε at several δ of rounds one after another, by direct convolution."""
    probabilities, lower, infinite = np.ones(1), 0, 0.0
    for loss in losses:
        probabilities = np.convolve(probabilities, loss.probabilities)
        lower, infinite = lower + loss.lower, infinite + loss.infinity_mass
    values = (lower + np.arange(len(probabilities))) * losses[0].interval
    found = []
    for delta in (1e-2, 1e-4, 1e-6):

        def excess(epsilon, delta=delta):
            sticks = -np.expm1(np.minimum(epsilon - values, 0.0)) * probabilities
            return math.fsum(sticks) + infinite - delta

        found.append(optimize.brentq(excess, 0, values[-1], xtol=1e-12))
    return np.array(found)


@pytest.mark.parametrize(("sigma", "q"), SETTINGS)
def test_rounds_with_pairs_of_either_kind_are_bounded(sigma, q):
    """Four rounds in which the client disagrees with the others in one data set or in
    the other, however the rounds are mixed; the bound is at most 7% above the worst."""
    remove, add, replace = (
        LossDistribution(sigma, q, direction=direction, interval=5e-3)
        for direction in ("remove", "add", "replace")
    )
    bound = composed([replace] * 4)
    mixed = np.array([composed([remove] * k + [add] * (4 - k)) for k in range(5)])
    assert (mixed <= bound + 1e-9).all()
    assert (bound <= 1.07 * mixed.max(axis=0)).all()


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_hardly_any_noise_is_bounded_at_once(accountant):
    """Where the exact curve would take gigabytes or overflow; never below it."""
    noises = [1e-30, 1e-6, 0.0199, 0.0201, 0.0999, 0.12]
    found = [
        GaussianEvent("fixed_size", z, 0.25, 4, 1.0, "replace_one").epsilon(
            3, 1e-5, accountant
        )
        for z in noises
    ]
    assert np.isfinite(found).all()
    assert (np.diff(found) < 0).all()
    # Noise over sensitivity is z/2: the Gaussian mechanism thrice.
    alone = GaussianEvent("none", 1e-6, 1.0, 4, 4.0, "replace_one")
    assert found[1] == alone.epsilon(3, 1e-5, accountant)


def test_rounds_are_charged_by_that_bound():
    event = GaussianEvent("fixed_size", 2.0, 0.5, 40, 20.0, "replace_one")
    # The noise is relative to twice the clip.
    remove, replace = (
        DirectionSolver(LossDistribution(1.0, 0.5, direction=direction)).solve(
            np.array([16]), 1e-3
        )[0]
        for direction in ("remove", "replace")
    )
    assert remove < 9.71 < 10.11 < replace
    exact = pytest.approx(replace, abs=1e-9)
    assert event.epsilon_curve(16, 1e-3, "pld")[-1] == exact
    assert event.epsilon(16, 1e-3, "pld") == exact
    assert mixed_epsilon([(1.0, 0.5, 16)], 1e-3, "replace_one") == exact


@pytest.mark.parametrize(("sigma", "q"), SETTINGS)
def test_loss_is_symmetric(sigma, q):
    loss = LossDistribution(sigma, q, direction="replace")
    middle = -loss.lower
    assert loss.losses[middle] == 0
    assert loss.probabilities.sum() + loss.infinity_mass == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(
        loss.probabilities[:middle][::-1],
        loss.probabilities[middle + 1 :] * np.exp(-loss.losses[middle + 1 :]),
        rtol=1e-9,
    )


@pytest.mark.parametrize(("sigma", "q"), SETTINGS)
def test_divergences_are_the_moments_of_the_loss(sigma, q):
    """Those of the lattice are pessimistic, by less than its interval."""
    steps = np.arange(-20, 5)
    loss = LossDistribution(sigma, q, direction="replace")
    moments = np.array([loss.log_moment(int(step)) for step in steps])
    theta = np.array([tilt(int(step)) for step in steps])
    ours = theta * renyi.replaced_in_subset(sigma, q, 1 + theta)
    assert (ours <= moments * (1 + 1e-9)).all()
    np.testing.assert_allclose(ours, moments, rtol=1e-7)


@pytest.mark.parametrize(("sigma", "q"), SETTINGS)
def test_divergences_are_above_those_of_the_worst_pair(sigma, q):
    orders = [2.0, 3.0, 8.0, 32.0, 128.0]
    ours = renyi.replaced_in_subset(sigma, q, np.array(orders))
    account = rdp.RdpAccountant(orders=orders)
    account.compose(
        dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(sigma))
    )
    pair = np.array(account.rdp)
    assert (ours >= pair * (1 - 1e-12)).all()
    # At large orders the tail decides, which is that of the pair.
    assert ours[-1] == pytest.approx(pair[-1], rel=1e-6)


def test_divergences_at_the_ends():
    orders = np.array([1.0001, 1.5, 2.0, 64.0, 1024.0])
    # Nearly everybody: the Gaussian itself.
    np.testing.assert_allclose(
        renyi.replaced_in_subset(3.0, 1 - 1e-12, orders), orders / 18, rtol=1e-6
    )
    # Nearly nobody: q² times a constant, which at order 2 is the integral of
    # (P/Q - 1)² over both half-lines, weighted by Q.
    rare = renyi.replaced_in_subset(1.0, 1e-6, np.array([2.0]))[0]

    def stick(x):
        return 2 * stats.norm.pdf(x) * np.expm1(x - 0.5) ** 2

    grid = np.linspace(0.5, 20, 400_001)
    assert rare == pytest.approx(1e-12 * np.trapz(stick(grid), grid), rel=1e-4)
    # Little noise: no overflow.
    assert np.isfinite(renyi.replaced_in_subset(0.1, 0.01, orders)).all()
    assert (np.diff(renyi.replaced_in_subset(0.7, 0.2, orders)) > 0).all()


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_more_noise_or_a_smaller_cohort_is_more_private(accountant):
    def epsilon(z, cohort):
        event = GaussianEvent(
            "fixed_size", z, cohort / 1000, 1000, cohort, "replace_one"
        )
        return event.epsilon(100, 1e-5, accountant)

    assert epsilon(1.0, 10) > epsilon(1.5, 10) > epsilon(1.5, 5) > 0
