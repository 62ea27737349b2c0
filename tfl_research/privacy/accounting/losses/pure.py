"""Privacy loss, divergences and ε of mechanisms of pure ε-differential privacy.

Randomized response tells the truth with probability e^ε / (1 + e^ε). It dominates every
such mechanism (Kairouz, Oh and Viswanath 2015, arXiv 1311.0776, Theorem 3.3), so its
loss, ±ε, is the loss of the worst mechanism.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from tfl_research.privacy.accounting.losses.loss_distribution import (
    INTERVAL,
    LatticeLoss,
    connected,
)


class PureLoss(LatticeLoss):
    """The loss of randomized response, the same in every direction."""

    def __init__(self, epsilon: float, interval: float = INTERVAL) -> None:
        """Discretises by the pessimistic Connect-the-Dots rule; see `connected`.

        Args:
          epsilon: ε of the mechanism, above 0.
          interval: the interval of the lattice.
        """
        self._epsilon = epsilon
        upper = math.ceil(epsilon / interval)
        losses = np.arange(-upper, upper + 1) * interval
        # δ at a loss y of at least -ε; for a smaller y, δ is 1 - e^y.
        share = 1 / (1 + math.exp(-epsilon))
        inside = share * np.maximum(-np.expm1(losses - epsilon), 0.0)
        deltas = np.where(losses < -epsilon, -np.expm1(losses), inside)
        super().__init__(interval, -upper, connected(deltas, interval))

    def coarser(self, interval: float) -> PureLoss:
        """The same loss on a lattice of a larger interval."""
        return PureLoss(self._epsilon, interval)


def rdp(epsilon: float, orders: np.ndarray) -> np.ndarray:
    """Computes Rényi divergences of randomized response, the largest of ε-DP.

    The divergence is log((e^{αε} + e^{(1-α)ε}) / (1 + e^ε)) / (α - 1) (Mironov 2017,
    arXiv 1702.07476, Proposition 5, with p = e^ε / (1 + e^ε)).

    Args:
      epsilon: ε of the mechanism.
      orders: float64 `[orders]`, above 1.
    """
    logs = np.logaddexp(orders * epsilon, (1 - orders) * epsilon)
    return np.asarray((logs - np.logaddexp(0.0, epsilon)) / (orders - 1))


def epsilon_of(epsilon: float, count: int, delta: float) -> float:
    """Finds the smallest ε' at δ of `count` composed mechanisms of the same ε.

    The result is exact: δ(ε') = Σ_k C(n,k) p^k (1-p)^(n-k) (1 - e^{ε' - (2k-n)ε}) over
    the terms that are positive (Kairouz, Oh and Viswanath 2015, Theorem 3.3).

    Args:
      epsilon: ε of one mechanism, above 0.
      count: n, at least 1.
      delta: target δ.
    """
    truths = np.arange(count + 1)
    losses = (2 * truths - count) * epsilon
    logs = (
        special.gammaln(count + 1)
        - special.gammaln(truths + 1)
        - special.gammaln(count - truths + 1)
        - truths * np.logaddexp(0.0, -epsilon)
        - (count - truths) * np.logaddexp(0.0, epsilon)
    )

    def private(bound: float) -> bool:
        above = losses > bound
        if not above.any():
            return True
        gaps = np.log(-np.expm1(bound - losses[above]))
        return bool(special.logsumexp(logs[above] + gaps) <= math.log(delta))

    low, high = 0.0, count * epsilon
    if private(0.0):
        return 0.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if private(middle) else (middle, high)
    return high
