"""The checks of noise pass what is declared, and catch what is not."""

from __future__ import annotations

import noise_checks
import numpy as np
import pytest
from scipy import stats

ROWS, N = 6, 4000


def normals(seed=0):
    return np.random.default_rng(seed).normal(size=(ROWS, N))


def test_limit_by_hand():
    # Two-sided, of one test: P(|x| > 1.96) = 0.05; of ten, at a tenth of it each.
    assert noise_checks.limit(1, 0.05) == pytest.approx(1.959964, abs=1e-6)
    assert noise_checks.limit(10, 0.5) == pytest.approx(1.959964, abs=1e-6)


@pytest.mark.parametrize("alarm", [0.2])
def test_false_alarms_are_as_rare_as_stated(monkeypatch, alarm):
    """Of 200 seeds at a rate of at most 0.2: 40 are expected, 70 once in 10^6."""
    monkeypatch.setattr(noise_checks, "FALSE_ALARM", alarm)
    alarms = 0
    for seed in range(200):
        try:
            noise_checks.check_normal(normals(seed)[:3, :400])
        except AssertionError:
            alarms += 1
    assert stats.binom.sf(alarms, 200, alarm) > 1e-6
    # And not so rare that a tenth of the rate was spent.
    assert alarms > 4


def scaled(draws):
    draws[1] *= 1.15


def shifted(draws):
    draws[1] += 0.12


def shared_by_rows(draws):
    draws[4] = 0.99 * draws[4] + 0.14 * draws[0]


def repeated_coordinates(draws):
    draws[2, 1::2] = draws[2, ::2]


def other_distribution(draws):
    draws[3] = np.random.default_rng(9).uniform(-(3**0.5), 3**0.5, N)


@pytest.mark.parametrize(
    "spoil", [scaled, shifted, shared_by_rows, repeated_coordinates, other_distribution]
)
def test_check_normal_catches(spoil):
    draws = normals()
    noise_checks.check_normal(draws)
    noise_checks.check_normal(draws * np.arange(1, 7)[:, None], np.arange(1, 7))
    spoil(draws)
    with pytest.raises(AssertionError):
        noise_checks.check_normal(draws)


@pytest.mark.parametrize("spoil", [shared_by_rows, repeated_coordinates])
def test_check_uncorrelated_catches(spoil):
    draws = np.random.default_rng(1).poisson(3.0, (ROWS, N)).astype(float)
    noise_checks.check_uncorrelated(draws)
    spoil(draws)
    with pytest.raises(AssertionError):
        noise_checks.check_uncorrelated(draws)


def test_check_variance_catches():
    # Uniform on ±1: variance 1/3, fourth moment 1/5.
    draws = np.random.default_rng(1).uniform(-1, 1, (ROWS, N))
    noise_checks.check_variance(draws, 1 / 3, 1 / 5)
    noise_checks.check_variance(draws, 0.4, 0.3, least=0.3)
    for wrong in (
        {"variance": 0.37, "fourth_moment": 0.25},
        {"variance": 0.3, "fourth_moment": 0.2},
        {"variance": 0.45, "fourth_moment": 0.3, "least": 0.37},
    ):
        with pytest.raises(AssertionError):
            noise_checks.check_variance(draws, **wrong)
    with pytest.raises(AssertionError):
        noise_checks.check_variance(draws + 0.1, 1 / 3, 1 / 5)
