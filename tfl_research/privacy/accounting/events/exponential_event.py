"""One choice by the exponential mechanism."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import numpy as np

from tfl_research.privacy.accounting import events
from tfl_research.privacy.accounting.losses import renyi
from tfl_research.sampling.amplification import NEIGHBOURING_RELATIONS


@dataclasses.dataclass(frozen=True)
class ExponentialEvent(events.Event):
    """One choice by the exponential mechanism (McSherry and Talwar 2007).

    The choice is ε-differentially private. Its privacy loss has a range of ε, so that
    it is ε²/8-zero-concentrated (Cesar and Rogers 2021, arXiv 2004.07223, Lemma 3.2).

    Attributes:
      pure_epsilon: ε of the choice, above 0.
      population: number of clients whose data decide.
      neighbouring_relation: "add_or_remove_one", "zero_out" or "replace_one"; the
        sensitivity of the scores is taken under it.

    Raises:
      ValueError: a number outside its range, or an unknown relation.

    Example:
      >>> event = ExponentialEvent(1.0, 100, "replace_one")
      >>> event.epsilon(1, 1e-6, "rdp") <= 1
      True
    """

    kind: ClassVar[str] = "exponential_mechanism"
    composes_by_round: ClassVar[bool] = True

    pure_epsilon: float
    population: int
    neighbouring_relation: str

    def __post_init__(self) -> None:
        if not 0 < self.pure_epsilon < math.inf:
            raise ValueError(
                f"pure_epsilon must be above 0 and finite, got {self.pure_epsilon}"
            )
        if self.population < 1:
            raise ValueError(f"population must be at least 1, got {self.population}")
        if self.neighbouring_relation not in NEIGHBOURING_RELATIONS:
            raise ValueError(
                f"neighbouring_relation must be one of {NEIGHBOURING_RELATIONS}, got "
                f"{self.neighbouring_relation!r}"
            )

    @property
    def num_clients(self) -> int:
        """See `Event`."""
        return self.population

    def rdp(self, rounds: int, orders: np.ndarray) -> np.ndarray:
        """See `Event`: min(α ε² / 8, ε) for each choice."""
        orders = np.asarray(orders, np.float64)
        bounded_range = orders * self.pure_epsilon**2 / 8
        return rounds * np.minimum(bounded_range, self.pure_epsilon)

    def epsilon_curve(self, rounds: int, delta: float, accountant: str) -> np.ndarray:
        """See `Event`: the lesser of the sum of ε and the bound of Rényi DP."""
        events.check_delta(delta)
        events.check_accountant(self, accountant)
        numbers = np.arange(1, rounds + 1)
        orders = renyi.default_orders()
        divergences = np.multiply.outer(numbers, self.rdp(1, orders))
        composed = renyi.rdp_epsilons(orders, divergences, delta)
        return np.minimum(numbers * self.pure_epsilon, composed)

    def zcdp(self, rounds: int) -> float:
        """See `Event`: ε²/8 for each choice."""
        return rounds * self.pure_epsilon**2 / 8

    def description(self) -> list[str]:
        """See `Event`."""
        return [
            "The best of the evaluated models is chosen by the exponential mechanism "
            f"with ε = {self.pure_epsilon:g} (McSherry and Talwar 2007)."
        ]
