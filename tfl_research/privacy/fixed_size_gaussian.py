"""Rényi divergences of the Gaussian mechanism over cohorts of a fixed size.

Wang, Balle and Kasiviswanathan 2019 (arXiv 1808.00087), Theorem 27, for sampling
without replacement under replace-one. Its bound has alternating sums of moments,

    B(l) = Σ_k (-1)^(l-k) C(l, k) e^{k(k-1)/(2σ²)} = E_Q[(P/Q - 1)^l]

for P = N(1, σ²) and Q = N(0, σ²). Summed in floating point they lose all digits where
the noise is large; as the expectation on the right, for even l, they are integrals
of a positive function, and the trapezoidal rule gives them to the last digits.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

# Distance of the nodes, and how far from a peak of the integrand they go, in standard
# deviations of Q; the peaks are no wider than Q, so that both errors are below e^-70.
_STEP = 1 / 16
_REACH = 12.0


def divergences(sigma: float, sampling_rate: float, orders: np.ndarray) -> np.ndarray:
    """Upper bounds of the Rényi divergence of one round.

    Args:
      sigma: standard deviation of the noise over the sensitivity to replacing a
        client, above 0.
      sampling_rate: q, the cohort's size over the population's, in (0, 1).
      orders: float64 `[n]`, above 1. Between whole orders (α - 1)·divergence is
        interpolated, which is on the safe side (Corollary 10 there).

    Returns:
      float64 `[n]`.
    """
    largest = math.ceil(float(np.max(orders)))
    terms = _log_terms(sigma, sampling_rate, largest)
    whole = np.unique([np.floor(orders), np.ceil(orders)]).astype(int)
    # log E[(dP/dQ)^α] for each whole order: 0 at order 1.
    logs = dict.fromkeys(whole, 0.0)
    for order in whole[whole > 1]:
        numbers = np.arange(2, order + 1)
        summed = terms[2 : order + 1] + _log_binomial(order, numbers)
        logs[order] = float(np.logaddexp(0.0, special.logsumexp(summed)))
    known = np.array([logs[order] for order in whole])
    return np.asarray(np.interp(orders, whole, known) / (orders - 1))


def _log_terms(sigma: float, sampling_rate: float, largest: int) -> np.ndarray:
    """Logarithms of Theorem 27's terms, without the binomials: `[largest + 1]`.

    The terms 0 and 1 are not used.
    """
    numbers = np.arange(largest + 1, dtype=np.float64)
    moments = _log_even_moments(sigma, largest // 2 + 1)
    halves = np.arange(largest + 1)
    mixed = (moments[halves // 2] + moments[(halves + 1) // 2]) / 2
    simple = math.log(2) + numbers * (numbers - 1) / (2 * sigma**2)
    return np.asarray(
        np.minimum(math.log(4) + mixed, simple) + numbers * math.log(sampling_rate)
    )


def _log_even_moments(sigma: float, largest: int) -> np.ndarray:
    """log E_Q[(P/Q - 1)^(2k)] for k = 0, ..., largest: float64 `[largest + 1]`.

    With x standard normal, P/Q - 1 is e^u - 1 for u = x/σ - 1/(2σ²): it vanishes at
    x = 1/(2σ), and its even powers have one peak on each side.
    """
    powers = 2.0 * np.arange(1, largest + 1)[:, np.newaxis]
    zero = 1 / (2 * sigma)
    # Where the slope of the integrand's logarithm changes sign, on either side.
    width = powers / sigma + np.sqrt(powers) + 1
    right = _root(powers, sigma, np.full_like(powers, zero), zero + width)
    left = _root(powers, sigma, -width - zero, np.full_like(powers, zero))
    offsets = np.arange(-round(_REACH / _STEP), round(_REACH / _STEP) + 1)
    logs = []
    for peak, side in ((left, -1), (right, 1)):
        # All on one lattice, so that both sides together are one trapezoidal rule.
        x = _STEP * (np.rint(peak / _STEP) + offsets)
        u = x / sigma - 1 / (2 * sigma**2)
        with np.errstate(divide="ignore"):
            # log(e^u - 1) is u for a u whose e^u would overflow.
            base = np.where(u > 40, u, np.log(np.abs(np.expm1(np.minimum(u, 40.0)))))
        values = powers * base - x**2 / 2
        logs.append(np.where(side * (x - zero) > 0, values, -np.inf))
    total = special.logsumexp(np.concatenate(logs, axis=1), axis=1)
    return np.concatenate([[0.0], total + math.log(_STEP) - math.log(2 * math.pi) / 2])


def _root(
    powers: np.ndarray, sigma: float, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Where l·d/dx log|e^u - 1| = x, by bisection; the slope falls on either side."""
    for _ in range(60):
        middle = (low + high) / 2
        u = middle / sigma - 1 / (2 * sigma**2)
        with np.errstate(divide="ignore", over="ignore"):
            rising = -powers / sigma / np.expm1(-u) > middle
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    return low


def _log_binomial(n: int, k: np.ndarray) -> np.ndarray:
    return np.asarray(
        special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    )
