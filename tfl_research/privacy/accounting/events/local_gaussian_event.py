"""One round in which every client noises its own update before sending it."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import numpy as np

from tfl_research.privacy.accounting import events
from tfl_research.privacy.accounting.losses import gaussian, renyi


@dataclasses.dataclass(frozen=True)
class LocalGaussianEvent(events.NoisedEvent):
    """One participation of a client that adds Gaussian noise to its own update.

    The guarantee holds for each client against everybody, including the server: the
    noised updates of two data sets of the client are hard to tell apart. Two clipped
    updates differ by up to twice the clip. Sampling gives no amplification, since
    everybody sees which clients send. A client that takes part in fewer rounds has a
    smaller ε.

    Attributes:
      noise_multiplier: standard deviation of a client's noise over the l2 norm clip;
        0 means no privacy (ε = inf).
      population: number of clients that could be sampled.
      cohort_size: expected size of the cohort.
      neighbouring_relation: "replace_one": one client's data are replaced.

    Raises:
      ValueError: the relation is not "replace_one", or a number is outside its range.
    """

    kind: ClassVar[str] = "local_gaussian"
    # Every participation draws fresh noise.
    composes_by_round: ClassVar[bool] = True
    noised_by_clients: ClassVar[bool] = True

    noise_multiplier: float
    population: int
    cohort_size: float
    neighbouring_relation: str = "replace_one"

    def __post_init__(self) -> None:
        events.check_noise_multiplier(self.noise_multiplier)
        if self.neighbouring_relation != "replace_one":
            raise ValueError(
                "a local mechanism is analysed under replace_one, got "
                f"{self.neighbouring_relation!r}"
            )
        if not 0 < self.cohort_size <= self.population:
            raise ValueError(
                f"cohort_size must be in (0, {self.population}] (the population), got "
                f"{self.cohort_size}"
            )

    @property
    def num_clients(self) -> int:
        return self.population

    @property
    def accountants(self) -> tuple[str, ...]:
        return ("pld", "rdp")

    def effective_noise_multiplier(self, rounds: int) -> float:
        """Returns noise over sensitivity of `rounds` participations as one Gaussian."""
        return self.noise_multiplier / 2 / math.sqrt(rounds)

    def rdp(self, rounds: int, orders: np.ndarray) -> np.ndarray:
        """Computes α T (2S)²/(2σ²) by order α (arXiv 1702.07476, Proposition 7)."""
        if self.noise_multiplier == 0:
            return np.full(len(orders), np.inf)
        return np.asarray(orders) / (2 * self.effective_noise_multiplier(rounds) ** 2)

    def epsilon_curve(self, rounds: int, delta: float, accountant: str) -> np.ndarray:
        """Computes ε after 1, ..., `rounds` rounds; "pld" is exact, in closed form."""
        return self._epsilons(np.arange(1, rounds + 1), delta, accountant)

    def epsilon(self, rounds: int, delta: float, accountant: str) -> float:
        """Returns the last value of `epsilon_curve`."""
        return float(self._epsilons(np.array([rounds]), delta, accountant)[0])

    def _epsilons(
        self, rounds: np.ndarray, delta: float, accountant: str
    ) -> np.ndarray:
        events.check_delta(delta)
        events.check_accountant(self, accountant)
        if self.noise_multiplier == 0:
            return np.full(len(rounds), np.inf)
        if accountant == "pld":
            return gaussian.epsilons(2 * np.sqrt(rounds) / self.noise_multiplier, delta)
        orders = renyi.default_orders()
        divergences = np.multiply.outer(rounds, self.rdp(1, orders))
        return renyi.rdp_epsilons(orders, divergences, delta)

    def zcdp(self, rounds: int) -> float:
        """Computes ρ = T (2S)²/(2σ²) of T rounds (arXiv 1605.02065, Lemma 2.4)."""
        if self.noise_multiplier == 0:
            return math.inf
        return 1 / (2 * self.effective_noise_multiplier(rounds) ** 2)

    def description(self) -> list[str]:
        return [
            "Each client clips its update in l2 norm and adds Gaussian noise of "
            f"{self.noise_multiplier:g} times the clip before anything leaves it "
            "(local differential privacy; Kasiviswanathan et al. 2011, "
            "arXiv 0803.0924): the guarantee holds against the server too.",
            "Neighbouring: one client's data is replaced by any other, so that the "
            "sensitivity is twice the clip.",
            "Participation: a client is charged for every round, as if it took part "
            "in all of them; no amplification by sampling or by the sum is claimed.",
        ]
