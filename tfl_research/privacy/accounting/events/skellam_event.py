"""One round of the distributed Skellam mechanism."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import numpy as np

from tfl_research.privacy.accounting.events.distributed_event import DistributedEvent


@dataclasses.dataclass(frozen=True)
class SkellamEvent(DistributedEvent):
    """One round: a sum of integer vectors with Skellam noise shares.

    See `DistributedEvent` for the attributes. A sum of Skellam variables is a Skellam
    variable, so the bound does not depend on the number of shares.
    """

    kind: ClassVar[str] = "skellam"
    NOISE: ClassVar[str] = "Skellam (Agarwal, Kairouz and Liu 2021, arXiv 2110.04995)"

    def round_divergences(self, orders: np.ndarray) -> np.ndarray:
        """Computes the bounds of Agarwal, Kairouz and Liu 2021 (arXiv 2110.04995).

        This is Theorem 3.5 in its multi-dimensional form: for whole orders α and
        variance μ of the sum,

          α Δ₂²/(2μ) + min(((2α - 1) Δ₂² + 6 Δ₁)/(4μ²), 3 Δ₁/(2μ)).

        Other orders get the bound of the next whole order.
        """
        l1, l2 = self.sensitivities
        variance = (self.noise_multiplier * self.l2_sensitivity) ** 2
        whole_orders = np.maximum(np.ceil(orders), 2)
        excess = np.minimum(
            ((2 * whole_orders - 1) * l2**2 + 6 * l1) / (4 * variance**2),
            3 * l1 / (2 * variance),
        )
        return whole_orders * l2**2 / (2 * variance) + excess

    def zcdp(self, rounds: int) -> float:
        """Returns inf, since the divergence bound holds only for whole orders."""
        del rounds
        return math.inf
