"""One round of the distributed discrete Gaussian mechanism."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import numpy as np

from tfl_research.privacy.accounting.events.distributed_event import DistributedEvent

# Below this, Proposition 13 of arXiv 2102.06387 does not hold.
SMALLEST_SHARE = 0.5


def tau(share_stddev: float, shares: int) -> float:
    """Bounds how far a sum of n discrete Gaussians is from one discrete Gaussian.

    τ = 10 Σ_{k=1}^{n-1} exp(-2π²σ² k/(k+1)) (Kairouz, Liu and Steinke 2021, arXiv
    2102.06387, Theorem 1).
    """
    k = np.arange(1, shares)
    exponents = -2 * (math.pi * share_stddev) ** 2 * k / (k + 1)
    return 10 * float(np.exp(exponents).sum())


@dataclasses.dataclass(frozen=True)
class DiscreteGaussianEvent(DistributedEvent):
    """One round: a sum of integer vectors with discrete Gaussian noise shares.

    See `DistributedEvent` for the attributes. A share is N_Z(0, σ²) in each coordinate.
    """

    kind: ClassVar[str] = "discrete_gaussian"
    NOISE: ClassVar[str] = (
        "discrete Gaussian (Kairouz, Liu and Steinke 2021, arXiv 2102.06387)"
    )

    def round_divergences(self, orders: np.ndarray) -> np.ndarray:
        """Computes the bounds for n = `minimum_cohort_size` shares of scale σ.

        Kairouz, Liu and Steinke 2021 (arXiv 2102.06387), Proposition 14. The bounds are
        inf for σ < 1/2.
        """
        if self.share_stddev < SMALLEST_SHARE:
            return np.full(len(orders), np.inf)
        l1, l2 = (s / self._total_scale for s in self.sensitivities)
        gap, dimension = self._gap, self.dimension
        return np.minimum(
            orders / 2 * l2**2 + gap * dimension,
            orders * self._concentrated(l1, l2),
        )

    def zcdp(self, rounds: int) -> float:
        """Computes ρ from the two bounds of Proposition 14 that are linear in α."""
        if self.noise_multiplier == 0 or self.share_stddev < SMALLEST_SHARE:
            return math.inf
        l1, l2 = (s / self._total_scale for s in self.sensitivities)
        return rounds * self._concentrated(l1, l2)

    def _concentrated(self, l1: float, l2: float) -> float:
        gap, dimension = self._gap, self.dimension
        return (
            min(
                l2**2 + 2 * l1 * gap + gap**2 * dimension,
                (l2 + math.sqrt(dimension) * gap) ** 2,
            )
            / 2
        )

    @property
    def _total_scale(self) -> float:
        return self.share_stddev * math.sqrt(self.minimum_cohort_size)

    @property
    def _gap(self) -> float:
        return tau(self.share_stddev, self.minimum_cohort_size)
