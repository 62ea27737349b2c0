"""Values of ε that are kept, and quick arithmetic of the same bits."""

from __future__ import annotations

import numpy as np
import pytest

from tfl_research.privacy.accounting.events import gaussian_event
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.accounting.losses import loss_distribution
from tfl_research.privacy.accounting.losses.sampled_gaussian import (
    DirectionSolver,
    SampledGaussianCurve,
)

EVENT = GaussianEvent("poisson", 0.83, 0.21, 100, 21.0, "add_or_remove_one")


@pytest.fixture
def solved(monkeypatch):
    """The numbers of rounds that are solved; nothing is kept before."""
    gaussian_event._kept_epsilon.cache_clear()
    gaussian_event._kept_values.cache_clear()
    asked = []
    solve = DirectionSolver.solve

    def noted(self, rounds, delta):
        asked.append(list(rounds))
        return solve(self, rounds, delta)

    monkeypatch.setattr(DirectionSolver, "solve", noted)
    return asked


def test_the_same_rounds_are_composed_once(solved):
    first = EVENT.epsilon(7, 1e-5, "pld")
    assert len(solved) == 2  # Two directions.
    assert EVENT.epsilon(7, 1e-5, "pld") == first
    assert len(solved) == 2
    assert first == SampledGaussianCurve(0.83, 0.21, 1e-5).epsilon(7)


@pytest.mark.parametrize(
    ("change", "delta", "rounds"),
    [
        ({"noise_multiplier": 0.84}, 1e-5, 7),
        ({"sampling_rate": 0.22, "cohort_size": 22.0}, 1e-5, 7),
        (
            {"sampling": "fixed_size", "neighbouring_relation": "replace_one"},
            1e-5,
            7,
        ),
        ({}, 1e-6, 7),
        ({}, 1e-5, 8),
    ],
)
def test_all_that_a_value_depends_on_counts(solved, change, delta, rounds):
    fields = {**EVENT.to_dict(), **change}
    fields.pop("kind")
    other = GaussianEvent(**fields)
    before = EVENT.epsilon(7, 1e-5, "pld"), list(EVENT.epsilon_curve(7, 1e-5, "pld"))
    found = other.epsilon(rounds, delta, "pld")
    curve = list(other.epsilon_curve(rounds, delta, "pld"))
    assert found != before[0]
    assert curve != before[1]
    gaussian_event._kept_epsilon.cache_clear()
    gaussian_event._kept_values.cache_clear()
    assert found == other.epsilon(rounds, delta, "pld")
    assert curve == list(other.epsilon_curve(rounds, delta, "pld"))


class _LargerCurve(SampledGaussianCurve):
    def epsilon(self, rounds):
        return super().epsilon(rounds) + 1

    def block(self, first):
        return super().block(first) + 1


class _OwnCurve(GaussianEvent):
    def sampled_curve(self, delta):
        return _LargerCurve(self.noise_multiplier, self.sampling_rate, delta)


def test_a_curve_of_a_sub_class_counts():
    fields = {name: value for name, value in EVENT.to_dict().items() if name != "kind"}
    own = _OwnCurve(**fields)
    plain = EVENT.epsilon(7, 1e-5, "pld"), EVENT.epsilon_curve(7, 1e-5, "pld")
    assert own.epsilon(7, 1e-5, "pld") == plain[0] + 1
    np.testing.assert_array_equal(own.epsilon_curve(7, 1e-5, "pld"), plain[1] + 1)


def test_a_curve_is_the_callers_own(solved):
    first = EVENT.epsilon_curve(5, 1e-5, "pld")
    asked, wanted = len(solved), first.copy()
    first[:] = 0
    np.testing.assert_array_equal(EVENT.epsilon_curve(5, 1e-5, "pld"), wanted)
    assert len(solved) == asked


@pytest.mark.parametrize("sigma", [0.1, 0.7, 5.0])
@pytest.mark.parametrize("direction", ["remove", "add", "replace"])
def test_exponentials_have_the_bits_of_numpy(sigma, direction):
    loss = loss_distribution.LossDistribution(sigma, 0.1, direction=direction)
    for step in range(-100, 101, 10):
        terms = loss_distribution.tilt(step) * loss.losses + loss.log_probabilities
        terms -= terms.max()
        wanted = np.exp(terms)
        np.testing.assert_array_equal(loss_distribution._exponentials(terms), wanted)


def test_a_coarse_lattice_gives_a_larger_epsilon_of_three_digits():
    exact = SampledGaussianCurve(0.83, 0.21, 1e-5).epsilon(7)
    rough = SampledGaussianCurve(0.83, 0.21, 1e-5, most_points=20_000).epsilon(7)
    assert exact < rough < 1.001 * exact
