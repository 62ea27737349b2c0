"""The base class of events whose clients add shares of the noise."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import ClassVar

import numpy as np
from scipy import special

from tfl_research.privacy.accounting import events
from tfl_research.privacy.accounting.losses import renyi

SAMPLINGS = ("none", "fixed_size")
RELATIONS = ("zero_out", "replace_one")


@dataclasses.dataclass(frozen=True)
class DistributedEvent(events.NoisedEvent):
    """One round: a modular sum of integer vectors, each with its share of the noise.

    The relation is not add-or-remove-one, since a client that leaves takes its share
    of the noise along. "zero_out" compares a client's update with zero, and the
    client's noise share stays (dp-accounting's REPLACE_SPECIAL). "replace_one"
    compares the update with any other update, which doubles the sensitivities.

    A release has the noise shares of at least `minimum_cohort_size` clients; further
    shares are post-processing. Lengths are in quanta, the steps of the integer grid.

    Attributes:
      noise_multiplier: standard deviation of `minimum_cohort_size` shares over
        `l2_sensitivity`; 0 means no privacy (ε = inf).
      sampling: "fixed_size" (a uniformly random subset of `cohort_size` clients, for
        "replace_one") or "none" (no amplification: any cohorts).
      population: number of clients that could be sampled.
      cohort_size: expected size of the cohort.
      neighbouring_relation: "zero_out" or "replace_one".
      minimum_cohort_size: a round with fewer reporting clients releases nothing.
      dimension: length of the integer vectors.
      l2_sensitivity: largest l2 norm of a client's integer vector before noise.

    Raises:
      ValueError: sampling or relation is unknown, they do not fit each other, or a
        number is outside its range.
    """

    kind: ClassVar[str] = ""
    # Every round draws fresh noise.
    composes_by_round: ClassVar[bool] = True
    releases_integers: ClassVar[bool] = True
    # Words for the noise, with its paper.
    NOISE: ClassVar[str] = ""

    noise_multiplier: float
    sampling: str
    population: int
    cohort_size: float
    neighbouring_relation: str
    minimum_cohort_size: int
    dimension: int
    l2_sensitivity: float

    def __post_init__(self) -> None:
        events.check_noise_multiplier(self.noise_multiplier)
        if self.sampling not in SAMPLINGS:
            raise ValueError(f"sampling must be one of {SAMPLINGS}: {self.sampling!r}")
        if self.neighbouring_relation not in RELATIONS:
            raise ValueError(
                f"neighbouring_relation must be one of {RELATIONS}, got "
                f"{self.neighbouring_relation!r}"
            )
        if self.sampling == "fixed_size" and (
            self.neighbouring_relation != "replace_one"
            or self.cohort_size != int(self.cohort_size)
        ):
            raise ValueError(
                "fixed_size sampling is analysed for a whole cohort_size under "
                f"replace_one, got {self.cohort_size} and {self.neighbouring_relation}"
            )
        if not 0 < self.cohort_size <= self.population:
            raise ValueError(
                f"cohort_size must be in (0, {self.population}] (the population), got "
                f"{self.cohort_size}"
            )
        if self.minimum_cohort_size < 1 or self.dimension < 1:
            raise ValueError(
                "minimum_cohort_size and dimension must be at least 1, got "
                f"{self.minimum_cohort_size} and {self.dimension}"
            )
        if not (self.l2_sensitivity > 0 and math.isfinite(self.l2_sensitivity)):
            raise ValueError(
                f"l2_sensitivity must be positive, got {self.l2_sensitivity}"
            )

    @property
    def num_clients(self) -> int:
        return self.population

    @property
    def share_stddev(self) -> float:
        """Standard deviation of one client's noise share, in quanta."""
        total = self.noise_multiplier * self.l2_sensitivity
        return total / math.sqrt(self.minimum_cohort_size)

    @property
    def sensitivities(self) -> tuple[float, float]:
        """The l1 and l2 norm of the difference between neighbours, in quanta.

        An integer vector of l2 norm Δ has l1 norm at most min(√d Δ, Δ²).
        """
        l2 = self.l2_sensitivity
        l1 = l2 * min(math.sqrt(self.dimension), l2)
        factor = 2 if self.neighbouring_relation == "replace_one" else 1
        return factor * l1, factor * l2

    @property
    def amplified(self) -> bool:
        """Whether sampling makes the round more private than its noise."""
        return self.sampling == "fixed_size" and self.cohort_size < self.population

    def round_divergences(self, orders: np.ndarray) -> np.ndarray:
        """Bounds the Rényi divergences of a round without amplification, `[orders]`."""
        raise NotImplementedError

    def rdp(self, rounds: int, orders: np.ndarray) -> np.ndarray:
        """Computes Rényi divergences by order: those of one round times `rounds`."""
        if self.noise_multiplier == 0:
            return np.full(len(orders), np.inf)
        return rounds * _divergences(self, tuple(map(float, orders)))

    def epsilon_curve(self, rounds: int, delta: float, accountant: str) -> np.ndarray:
        events.check_delta(delta)
        events.check_accountant(self, accountant)
        return self._epsilons(np.arange(1, rounds + 1), delta)

    def epsilon(self, rounds: int, delta: float, accountant: str) -> float:
        """Returns the last value of `epsilon_curve`."""
        events.check_delta(delta)
        events.check_accountant(self, accountant)
        return float(self._epsilons(np.array([rounds]), delta)[0])

    def _epsilons(self, rounds: np.ndarray, delta: float) -> np.ndarray:
        if self.noise_multiplier == 0:
            return np.full(len(rounds), np.inf)
        orders = renyi.default_orders()
        divergences = np.multiply.outer(rounds, self.rdp(1, orders))
        return renyi.rdp_epsilons(orders, divergences, delta)

    def description(self) -> list[str]:
        relation = {
            "zero_out": "a client's update is compared with zero (zero-out), its own "
            "noise share staying in the sum",
            "replace_one": "a client's update is compared with any other one",
        }[self.neighbouring_relation]
        lines = [
            "Each client clips its update in l2 norm, rotates it, rounds it to an "
            f"integer grid and adds its own {self.NOISE} noise; only the sum modulo a "
            "power of two is meant to reach the server (secure aggregation).",
            f"The noise of {self.minimum_cohort_size} clients together has "
            f"{self.noise_multiplier:g} times the l2 sensitivity after rounding; a "
            "round with fewer reporting clients releases nothing. Clients that "
            "collude with the server know their own shares, and do not count.",
            f"Neighbouring: {relation}.",
        ]
        if self.amplified and self.cohort_size < self.population:
            return [
                *lines,
                f"Sampling: exactly {self.cohort_size:g} of {self.population} clients, "
                "drawn uniformly each round; nobody must learn which ones (Wang et "
                "al. 2019, arXiv 1808.00087, Theorem 9).",
            ]
        return [
            *lines,
            f"Sampling: no amplification; all of {self.population} clients are "
            "charged for every round.",
        ]


@functools.lru_cache(maxsize=64)
def _divergences(event: DistributedEvent, orders: tuple[float, ...]) -> np.ndarray:
    values = np.array(orders)
    divergences = event.round_divergences(values)
    if event.amplified:
        rate = event.cohort_size / event.population
        largest = int(np.ceil(values.max()))
        at_whole_orders = event.round_divergences(
            np.arange(2, largest + 1, dtype=np.float64)
        )
        amplified = sampled_without_replacement(at_whole_orders, rate)
        # Divergences do not decrease with the order, so the divergence of the next
        # whole order is a bound.
        ceilings = np.maximum(np.ceil(values).astype(int), 2)
        divergences = np.minimum(divergences, amplified[ceilings - 2])
    divergences.flags.writeable = False
    return divergences


def sampled_without_replacement(divergences: np.ndarray, rate: float) -> np.ndarray:
    """Computes Rényi divergences, under replace-one, of a mechanism on a random subset.

    Wang, Balle and Kasiviswanathan 2019 (arXiv 1808.00087), Theorem 9, for a
    mechanism without pure differential privacy.

    Args:
      divergences: float64 `[n]`, divergences of the mechanism at the orders 2, 3, ...,
        n + 1.
      rate: γ = subset over population, in (0, 1].

    Returns:
      float64 `[n]` at the same orders.
    """
    orders = np.arange(2, len(divergences) + 2)
    second = divergences[0]
    # log min(4 (e^ε - 1), 2 e^ε) without overflow.
    below = math.log(4) + math.log(math.expm1(second)) if 0 < second < 1 else math.inf
    if second == 0:
        below = -math.inf
    exponents = (orders - 1) * divergences + math.log(2)
    exponents[0] = min(below, math.log(2) + second)
    result = np.empty(len(orders))
    for index, order in enumerate(orders):
        terms = orders[: index + 1]
        logs = (
            terms * math.log(rate)
            + special.gammaln(order + 1)
            - special.gammaln(terms + 1)
            - special.gammaln(order - terms + 1)
            + exponents[: index + 1]
        )
        result[index] = np.logaddexp(0.0, special.logsumexp(logs)) / (order - 1)
    return np.minimum(result, divergences)
