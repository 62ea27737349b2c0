"""Rounds that differ, composed by our spectra and by dp-accounting."""

from __future__ import annotations

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld

from tfl_research import privacy
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.accounting.losses import gaussian, mixed_gaussians
from tfl_research.privacy.accounting.losses.mixed_gaussians import mixed_epsilon


def dp_accountings(parts, delta):
    # Its default interval, 1e-4, takes ten times as long.
    accountant = pld.PLDAccountant(value_discretization_interval=1e-3)
    for sigma, rate, rounds in parts:
        event = dp_accounting.GaussianDpEvent(sigma)
        if rate < 1:
            event = dp_accounting.PoissonSampledDpEvent(rate, event)
        accountant.compose(event, rounds)
    return accountant.get_epsilon(delta)


@pytest.mark.parametrize(
    ("parts", "delta"),
    [
        ([(1.0, 0.01, 500), (1.2, 0.01, 500)], 1e-5),
        ([(1.0, 0.01, 2000), (1.2, 0.05, 20), (3.0, 1.0, 1)], 1e-6),
        ([(0.8, 0.1, 10), (5.0, 1.0, 4)], 1e-3),
        ([(2.0, 0.3, 1), (0.9, 0.001, 1)], 1e-8),
    ],
)
def test_agrees_with_dp_accounting(parts, delta):
    # A coarser lattice is pessimistic: dp-accounting's is at most a little above.
    found, other = mixed_epsilon(parts, delta), dp_accountings(parts, delta)
    assert found <= other * (1 + 1e-6)
    assert found == pytest.approx(other, rel=2e-3)


def test_parts_may_be_split_and_reordered():
    whole = privacy.epsilon_curve(
        noise_multiplier=1.0, sampling_rate=0.02, rounds=300, delta=1e-5
    )[-1]
    split = [(1.0, 0.02, 120), (1.0, 0.02, 180)]
    assert mixed_epsilon(split, 1e-5) == pytest.approx(whole, rel=1e-9)
    mixed = [(1.0, 0.02, 120), (1.5, 0.05, 30)]
    assert mixed_epsilon(mixed, 1e-5) == pytest.approx(
        mixed_epsilon(mixed[::-1], 1e-5), rel=1e-9
    )


def test_gaussians_alone_agree_with_the_closed_form():
    mu = np.sqrt([3 / 2.0**2 + 2 / 4.0**2])
    expected = gaussian.epsilons(mu, 1e-5)[0]
    found = mixed_epsilon([(2.0, 1.0, 3), (4.0, 1.0, 2)], 1e-5)
    assert found == pytest.approx(expected, rel=1e-6)
    # Pessimistic discretisation: never below.
    assert found >= expected * (1 - 1e-9)


def test_composed_epsilon_uses_it_for_different_rounds():
    one = GaussianEvent("poisson", 1.0, 0.01, 1000, 10.0, "add_or_remove_one")
    other = GaussianEvent("none", 6.0, 1.0, 1000, 10.0, "add_or_remove_one")
    found = privacy.composed_epsilon([(one, 40), (other, 2), (one, 60)], 1e-5)
    expected = mixed_epsilon([(1.0, 0.01, 100), (6.0 / 2**0.5, 1.0, 1)], 1e-5)
    assert found == pytest.approx(expected, rel=1e-9)


def test_many_kinds_of_rounds_are_bounded_closely_on_a_coarser_lattice(monkeypatch):
    parts = [(0.9 + 0.02 * i, 0.01 + 0.0005 * i, 40) for i in range(24)]
    coarse = mixed_epsilon(parts, 1e-5)
    monkeypatch.setattr(mixed_gaussians, "_FINE_PARTS", len(parts))
    fine = mixed_epsilon(parts, 1e-5)
    assert fine <= coarse <= fine * (1 + 2e-4)


def test_no_parts_are_refused():
    with pytest.raises(ValueError, match="at least one kind of round"):
        mixed_epsilon([], 1e-5)
