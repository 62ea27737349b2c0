"""Computes ε of the Gaussian mechanism without sampling, in closed form."""

from __future__ import annotations

import numpy as np
from scipy import special


def log_delta(epsilons: np.ndarray, mu: np.ndarray) -> np.ndarray:
    """Computes log δ at ε of the Gaussian mechanism with sensitivity over noise `mu`.

    δ = Φ(μ/2 - ε/μ) - e^ε Φ(-μ/2 - ε/μ) (Balle and Wang 2018, arXiv 1805.06530,
    Theorem 8). t rounds of noise multiplier z are one mechanism with μ = √t / z.
    """
    minuend = special.log_ndtr(mu / 2 - epsilons / mu)
    subtrahend = epsilons + special.log_ndtr(-mu / 2 - epsilons / mu)
    # Where δ is nearly 0, rounding can make the subtrahend the larger term.
    with np.errstate(divide="ignore"):
        return minuend + np.log(-np.expm1(np.minimum(subtrahend - minuend, 0.0)))


def epsilons(mu: np.ndarray, delta: float) -> np.ndarray:
    """Finds the smallest ε >= 0 for each `mu`, float64 `[n]` above 0, by bisection."""
    low = np.zeros_like(mu)
    # Zero-concentrated DP of ρ = μ²/2 gives ρ + 2√(ρ log(1/δ)) (arXiv 1605.02065).
    rho = mu**2 / 2
    high = rho + 2 * np.sqrt(rho * np.log(1 / delta))
    private_at_zero = log_delta(low, mu) <= np.log(delta)
    for _ in range(100):
        middle = (low + high) / 2
        enough = log_delta(middle, mu) <= np.log(delta)
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(private_at_zero, 0.0, high)
