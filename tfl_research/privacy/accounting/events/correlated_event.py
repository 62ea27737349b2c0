"""The base class of events with correlated noise."""

from __future__ import annotations

import abc
import math

import numpy as np

from tfl_research.privacy.accounting import events
from tfl_research.privacy.accounting.losses import gaussian, renyi


class CorrelatedEvent(events.NoisedEvent):
    """Base of events for which rounds 1 to t are one Gaussian mechanism, for every t.

    Subclasses are frozen dataclasses with a field `noise_multiplier`, and add
    `neighbouring_relation` and `description`.
    """

    @abc.abstractmethod
    def squared_sensitivity(self, rounds: int) -> np.ndarray:
        """Computes the squared sensitivity of rounds 1 to t, for every t.

        The sensitivity is relative to the clip. The noise has the variance
        (noise multiplier x clip)^2.

        Returns:
          float64 `[rounds]`, for t = 1 to `rounds`, not decreasing.
        """

    @property
    def accountants(self) -> tuple[str, ...]:
        return ("pld", "rdp")

    def effective_noise_multiplier(self, rounds: int) -> float:
        """Returns noise over sensitivity of rounds 1 to `rounds` as one Gaussian.

        Sampling can make the rounds more private than this Gaussian, but never less.
        """
        return self.noise_multiplier / math.sqrt(self.squared_sensitivity(rounds)[-1])

    def rdp(self, rounds: int, orders: np.ndarray) -> np.ndarray:
        """Computes α S²/(2z²) by order α (Mironov 2017, arXiv 1702.07476, Cor. 3)."""
        if self.noise_multiplier == 0:
            return np.full(len(orders), np.inf)
        return orders / (2 * self.effective_noise_multiplier(rounds) ** 2)

    def epsilon_curve(self, rounds: int, delta: float, accountant: str) -> np.ndarray:
        """Computes ε after 1, ..., `rounds` rounds; "pld" is exact, in closed form."""
        self._check(delta, accountant)
        if self.noise_multiplier == 0:
            return np.full(rounds, np.inf)
        squared = self.squared_sensitivity(rounds) / self.noise_multiplier**2
        # Many rounds have the same sensitivity; ε is computed once for each value.
        values, indices = np.unique(squared, return_inverse=True)
        return self._epsilons(values, delta, accountant)[indices]

    def epsilon(self, rounds: int, delta: float, accountant: str) -> float:
        """Returns the last value of `epsilon_curve`."""
        self._check(delta, accountant)
        if self.noise_multiplier == 0:
            return math.inf
        squared = self.squared_sensitivity(rounds)[-1:] / self.noise_multiplier**2
        return float(self._epsilons(squared, delta, accountant)[0])

    def _check(self, delta: float, accountant: str) -> None:
        events.check_delta(delta)
        events.check_accountant(self, accountant)

    @staticmethod
    def _epsilons(squared: np.ndarray, delta: float, accountant: str) -> np.ndarray:
        if accountant == "pld":
            return gaussian.epsilons(np.sqrt(squared), delta)
        orders = renyi.default_orders()
        divergences = np.multiply.outer(squared / 2, orders)
        return renyi.rdp_epsilons(orders, divergences, delta)

    def zcdp(self, rounds: int) -> float:
        """Computes ρ = S²/(2z²) of rounds 1 to `rounds`, without amplification.

        Bun and Steinke 2016, arXiv 1605.02065, Lemma 2.4.
        """
        if self.noise_multiplier == 0:
            return math.inf
        return 1 / (2 * self.effective_noise_multiplier(rounds) ** 2)


def check_positive_integers(**values: int) -> None:
    """Checks that each value is a whole number of at least 1.

    Raises:
      ValueError: a value is no whole number, or below 1.
    """
    for name, value in values.items():
        if isinstance(value, bool) or value != int(value) or value < 1:
            raise ValueError(
                f"{name} must be a whole number of at least 1, got {value}"
            )


def participation_words(min_separation: int, rounds_per_epoch: int) -> str:
    """Describes the assumption on the rounds in which a client takes part."""
    if rounds_per_epoch == 1:
        return "a client may take part in every round"
    words = f"a client takes part at most once in every {rounds_per_epoch} rounds"
    if min_separation > 1:
        words += f", in rounds at least {min_separation} apart"
    return f"{words}; the sampler enforces it"
