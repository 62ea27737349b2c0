"""Sizes of cohorts, and base classes of samplers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import special

# A Poisson cohort is larger than `maximum_cohort_size`, or smaller than
# `minimum_cohort_size`, with at most this probability each.
OVERFLOW_PROBABILITY = 1e-9


def check_population(client_ids: Sequence[str]) -> None:
    """Checks that there are clients.

    Raises:
      ValueError: there are no clients.
    """
    if len(client_ids) == 0:
        raise ValueError("a sampler needs at least one client id, got none")


def _check_cohort_size(cohort_size: float, population: int, *, integer: bool) -> None:
    if not 0 < cohort_size <= population:
        raise ValueError(
            f"cohort_size must be above 0 and at most the population of {population} "
            f"clients, got {cohort_size}"
        )
    if integer and cohort_size != int(cohort_size):
        raise ValueError(f"cohort_size must be a whole number, got {cohort_size}")


def check_round(round_number: int) -> None:
    """Checks that a round is at least 1.

    Raises:
      ValueError: the round is below 1.
    """
    if round_number < 1:
        raise ValueError(f"rounds are numbered from 1, got {round_number}")


def pick(client_ids: Sequence[str], indices: np.ndarray) -> tuple[str, ...]:
    """The ids at `indices`, in population order."""
    return tuple(client_ids[int(index)] for index in np.sort(indices))


def _binomial_bound(population: int, rate: float) -> int:
    """Returns the smallest m that a binomial count exceeds with probability <= 1e-9."""
    low, high = -1, population
    while high - low > 1:
        middle = (low + high) // 2
        # bdtrc is P[binomial > middle].
        tail = special.bdtrc(middle, population, rate)
        low, high = (low, middle) if tail <= OVERFLOW_PROBABILITY else (middle, high)
    return high


def _binomial_lower_bound(population: int, rate: float) -> int:
    """Returns the largest m with P[binomial < m] <= OVERFLOW_PROBABILITY."""
    # Fewer than m successes mean more than population - m failures.
    return population - _binomial_bound(population, 1.0 - rate)


@dataclasses.dataclass(frozen=True)
class WholeCohorts:
    """Fields and sizes of samplers with equally large cohorts."""

    client_ids: Sequence[str]
    cohort_size: int
    seed: int

    def __post_init__(self) -> None:
        check_population(self.client_ids)
        _check_cohort_size(self.cohort_size, len(self.client_ids), integer=True)

    @property
    def expected_cohort_size(self) -> float:
        """The cohort size."""
        return float(self.cohort_size)

    @property
    def maximum_cohort_size(self) -> int:
        """The cohort size."""
        return int(self.cohort_size)

    @property
    def minimum_cohort_size(self) -> int:
        """The cohort size."""
        return int(self.cohort_size)


@dataclasses.dataclass(frozen=True)
class BinomialCohorts:
    """Fields and sizes of samplers that draw every client independently.

    A client is in a round's cohort with probability `cohort_size / len(client_ids)`:
    the cohort's size is binomial.
    """

    client_ids: Sequence[str]
    cohort_size: float
    seed: int

    def __post_init__(self) -> None:
        check_population(self.client_ids)
        _check_cohort_size(self.cohort_size, len(self.client_ids), integer=False)

    @property
    def expected_cohort_size(self) -> float:
        """Mean size of a cohort: the denominator of a private average."""
        return float(self.cohort_size)

    @property
    def maximum_cohort_size(self) -> int:
        """The binomial quantile: smallest m with P[cohort > m] <= 1e-9."""
        population = len(self.client_ids)
        return _binomial_bound(population, self.cohort_size / population)

    @property
    def minimum_cohort_size(self) -> int:
        """The largest m with P[cohort < m] <= 1e-9; 0 for small cohorts."""
        population = len(self.client_ids)
        return _binomial_lower_bound(population, self.cohort_size / population)
