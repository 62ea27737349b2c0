"""Rényi differential privacy: orders, and ε from divergences at these orders."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

# Nodes and weights for a panel of the integral over outputs.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
# The integral ends this many standard deviations beyond the last peak, and leaves out
# e^-72.
_TAIL = 12.0
_LEAST_NOISE = 0.05


def default_orders() -> np.ndarray:
    """Returns dp-accounting's orders, float64, increasing, all above 1."""
    from dp_accounting import rdp  # Takes a second, and is not always needed.

    return np.asarray(rdp.RdpAccountant().orders, np.float64)


def rdp_epsilons(
    orders: np.ndarray, divergences: np.ndarray, delta: float
) -> np.ndarray:
    """Computes ε from Rényi divergences, at the best order for each row.

    Args:
      orders: float64 `[orders]`, above 1.
      divergences: float64 `[n, orders]`; inf where there is no bound.
      delta: target δ.

    Returns:
      float64 `[n]`, by Canonne, Kamath and Steinke 2020 (arXiv 2004.00010),
      Proposition 12, and 0 where the total variation bound √(1 - e^{-KL}) is at most
      δ; dp-accounting has the same rule and numerical limits.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        epsilons = (
            divergences + np.log1p(-1 / orders) - np.log(delta * orders) / (orders - 1)
        )
    epsilons = np.where(orders > 1.01, epsilons, np.inf)
    epsilons = np.where(delta**2 + np.expm1(-divergences) > 0, 0.0, epsilons)
    return np.maximum(epsilons.min(axis=1), 0.0)


def replaced_in_subset(
    noise_multiplier: float, sampling_rate: float, orders: np.ndarray
) -> np.ndarray:
    """Computes Rényi divergences of a Gaussian on a random subset under replace-one.

    With r(x) = 1 - q + q e^{(2x - 1)/(2σ²)}, the curve of `loss_distribution` for
    "replace" gives

      e^{(α-1) D_α} = 1 + ∫_{x > 1/2} N(x; 0, σ²) (r^α + r^{1-α} - r - 1) dx.

    A pair that dominates every hockey-stick divergence dominates every Rényi
    divergence too (Zhu, Dong and Wang 2022, arXiv 2106.08567). The bound is below
    Theorem 27 of Wang et al. 2018 (arXiv 1808.00087) for the same divergence.

    Args:
      noise_multiplier: σ over the sensitivity, which is twice the clip; above 0.
      sampling_rate: q = subset over population, in (0, 1).
      orders: float64 `[orders]`, above 1.

    Returns:
      float64 `[orders]`. For a noise multiplier below 0.05, the integral would need
      gigabytes, and ε is in the hundreds. The result is then the divergence of the
      Gaussian on all clients, which is a bound.
    """
    sigma, q = noise_multiplier, sampling_rate
    if sigma < _LEAST_NOISE:
        return np.asarray(orders / (2 * sigma**2))
    # Poles of log r are πσ² off the real line.
    width = min(sigma, sigma**2)
    panels = math.ceil((orders.max() + _TAIL * sigma) / width)
    edges = 0.5 + width * np.arange(panels)[:, np.newaxis]
    outputs = (edges + width / 2 * (_NODES + 1)).ravel()
    log_weights = np.tile(np.log(width / 2 * _WEIGHTS), panels)
    log_weights -= 0.5 * (outputs / sigma) ** 2
    log_weights -= math.log(sigma) + 0.5 * math.log(2 * math.pi)
    exponents = (2 * outputs - 1) / (2 * sigma**2)
    # log r, without cancellation near x = 1/2.
    near = np.log1p(q * np.expm1(np.minimum(exponents, 1.0)))
    losses = np.where(
        exponents < 1, near, np.logaddexp(math.log1p(-q), math.log(q) + exponents)
    )
    divergences = []
    for order in orders:
        count = int(np.searchsorted(outputs, order + 0.5 + _TAIL * sigma))
        loss = losses[:count]
        # The bracket is (r^{α-1} - 1)(r - r^{1-α}); both factors are positive.
        grown = (order - 1) * loss
        logs = (
            grown + np.log(-np.expm1(-grown)) + loss + np.log(-np.expm1(-order * loss))
        )
        integral = special.logsumexp(logs + log_weights[:count])
        divergences.append(np.logaddexp(0.0, integral) / (order - 1))
    return np.array(divergences)
