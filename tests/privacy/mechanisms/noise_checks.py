"""Whether noise is what a mechanism declares, with a stated rate of false alarms.

Each `check_*` rejects noise that is as declared once in 10^6 seeds (`FALSE_ALARM`):
it divides that by its number of tests (Bonferroni) and takes each test's threshold
from the distribution of its statistic. Seeds in tests are fixed, so that a test fails
always or never.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

FALSE_ALARM = 1e-6


def limit(tests, alarm=FALSE_ALARM):
    """What so many standard normal values, together, exceed in size by chance."""
    return stats.norm.isf(alarm / tests / 2)


def check_normal(draws, stddev=1.0, lags=(1, 2, 100)):
    """Asserts that all values are independent and of N(0, stddev²).

    Args:
      draws: `[rows, n]`, n in the hundreds or more: rounds, clients, tensors or nodes
        by coordinates.
      stddev: declared, for all rows or `[rows]`.
      lags: distances of coordinates, below n.
    """
    draws = np.asarray(draws, np.float64) / np.reshape(stddev, (-1, 1))
    rows, n = draws.shape
    pairs = rows * (rows - 1) // 2
    alarm = FALSE_ALARM / (rows * (3 + len(lags)) + pairs)
    # Exactly χ² with n degrees of freedom, and normal.
    totals = np.sum(draws**2, axis=1)
    low, high = stats.chi2.ppf(alarm / 2, n), stats.chi2.isf(alarm / 2, n)
    assert low < totals.min(), (low, totals)
    assert totals.max() < high, (high, totals)
    _check_sizes(draws.sum(axis=1) / math.sqrt(n), alarm)
    assert min(stats.kstest(row, "norm").pvalue for row in draws) > alarm
    if pairs:
        # Of independent normal vectors, r √((n-2)/(1-r²)) is Student's t, exactly.
        r = np.corrcoef(draws)[np.triu_indices(rows, 1)]
        t = r * np.sqrt((n - 2) / (1 - r**2))
        assert np.abs(t).max() < stats.t.isf(alarm / 2, n - 2), r
    _check_lags(draws, lags, alarm)


def check_uncorrelated(draws, lags=(1, 2, 64)):
    """Asserts that values are uncorrelated across rows and coordinates.

    For noise that is not normal, standardised by its own deviation: sums of n products
    are taken for normal, so that n should be in the thousands.
    """
    draws = np.asarray(draws, np.float64)
    draws = (draws - draws.mean(axis=1, keepdims=True)) / draws.std(
        axis=1, keepdims=True
    )
    rows, n = draws.shape
    pairs = rows * (rows - 1) // 2
    alarm = FALSE_ALARM / (rows * len(lags) + pairs)
    if pairs:
        products = (draws @ draws.T)[np.triu_indices(rows, 1)]
        _check_sizes(products / math.sqrt(n), alarm)
    _check_lags(draws, lags, alarm)


def check_variance(draws, variance, fourth_moment, least=None):
    """Asserts mean 0 and a variance, of noise that is not normal.

    Args:
      draws: `[rows, n]`, n in the thousands.
      variance: declared, or at most this where `least` is given.
      fourth_moment: E[x⁴] at that variance.
      least: the variance is at least this.
    """
    draws = np.asarray(draws, np.float64)
    rows, n = draws.shape
    size = limit(2 * rows)
    error = math.sqrt((fourth_moment - variance**2) / n)
    found = np.mean(draws**2, axis=1)
    assert found.max() < variance + size * error, (found, variance)
    least = variance if least is None else least
    assert found.min() > least - size * error, (found, least)
    assert np.abs(draws.mean(axis=1)).max() < size * math.sqrt(variance / n)


def _check_lags(draws, lags, alarm):
    for lag in lags:
        products = np.sum(draws[:, lag:] * draws[:, :-lag], axis=1)
        _check_sizes(products / math.sqrt(draws.shape[1] - lag), alarm)


def _check_sizes(values, alarm):
    assert np.abs(values).max() < limit(1, alarm), values
