"""A release of pure ε-differential privacy, such as a noisy maximum."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Optional

import numpy as np

from tfl_research.privacy.accounting import events
from tfl_research.privacy.accounting.losses import renyi


@dataclasses.dataclass(frozen=True)
class PureEvent(events.Event):
    """One release of a mechanism of pure ε-differential privacy.

    Use this event for the exponential mechanism (McSherry and Talwar 2007),
    report-noisy-max and Laplace noise. The accountants know only ε, and assume the
    worst mechanism with this ε.

    Attributes:
      epsilon_of_release: ε of one release, above 0.
      neighbouring_relation: which populations are neighbours; it must be the relation
        of the run's rounds.
      unit: the unit of privacy, "client" or "record".
      population: number of clients or records that could take part, or None.

    Raises:
      ValueError: a value is out of its range.

    Example:
      >>> selection = tfl.privacy.PureEvent(0.5, "add_or_remove_one")
      >>> tfl.privacy.composed_epsilon([(selection, 3)], delta=1e-6)
      1.49...
    """

    kind: ClassVar[str] = "pure"
    composes_by_round: ClassVar[bool] = True

    epsilon_of_release: float
    neighbouring_relation: str
    unit: str = "client"
    population: Optional[int] = None

    def __post_init__(self) -> None:
        epsilon = self.epsilon_of_release
        if not (epsilon > 0 and math.isfinite(epsilon)):
            raise ValueError(
                f"epsilon_of_release must be above 0 and finite, got {epsilon}"
            )
        if self.unit not in ("client", "record"):
            raise ValueError(f"unit must be 'client' or 'record', got {self.unit!r}")
        if not self.neighbouring_relation:
            raise ValueError("neighbouring_relation must not be empty")

    @property
    def num_clients(self) -> Optional[int]:
        return self.population

    @property
    def accountants(self) -> tuple[str, ...]:
        return ("pld", "rdp")

    def rdp(self, rounds: int, orders: np.ndarray) -> np.ndarray:
        """Computes Rényi divergences by order: randomized response times `rounds`."""
        from tfl_research.privacy.accounting.losses import pure

        return rounds * pure.rdp(self.epsilon_of_release, np.asarray(orders))

    def epsilon_curve(self, rounds: int, delta: float, accountant: str) -> np.ndarray:
        """Computes ε after 1, 2, ..., `rounds` releases; "pld" is exact."""
        return np.array(
            [self.epsilon(count, delta, accountant) for count in range(1, rounds + 1)]
        )

    def epsilon(self, rounds: int, delta: float, accountant: str) -> float:
        from tfl_research.privacy.accounting.losses import pure

        events.check_delta(delta)
        events.check_accountant(self, accountant)
        if accountant == "pld":
            return pure.epsilon_of(self.epsilon_of_release, rounds, delta)
        orders = renyi.default_orders()
        divergences = self.rdp(rounds, orders)[np.newaxis]
        by_rdp = float(renyi.rdp_epsilons(orders, divergences, delta)[0])
        return min(by_rdp, rounds * self.epsilon_of_release)

    def as_pure_rounds(self, rounds: int) -> tuple[float, int]:
        return self.epsilon_of_release, rounds

    def zcdp(self, rounds: int) -> float:
        """Computes ρ = ε²/2 for each release, times `rounds`.

        Bun and Steinke 2016, arXiv 1605.02065, Proposition 3.3.
        """
        return rounds * self.epsilon_of_release**2 / 2

    def description(self) -> list[str]:
        return [
            f"A release of pure differential privacy, ε = {self.epsilon_of_release:g}, "
            "charged as randomized response of this ε, which dominates every such "
            "release (Kairouz, Oh and Viswanath 2015, arXiv 1311.0776).",
        ]
