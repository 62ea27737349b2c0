"""Cohort samplers: pure functions of (seed, round) over a fixed population.

Rounds are numbered from 1. Client ids are only indexed, never copied, so that a
lazy sequence of millions of ids costs nothing until its clients are drawn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from tfl_research.data import derived_generator
from tfl_research.sampling.amplification import Amplification
from tfl_research.sampling.cohort_sizes import (
    BinomialCohorts,
    WholeCohorts,
    check_population,
    check_round,
    pick,
)


class Sampler(Protocol):
    """Protocol of samplers, which draw each round's cohort."""

    @property
    def client_ids(self) -> Sequence[str]:
        """The population, in a fixed order."""

    def sample(self, round_number: int) -> tuple[str, ...]:
        """The distinct ids of the round's cohort, in population order."""

    @property
    def expected_cohort_size(self) -> float:
        """Mean size of a cohort: the denominator of a private average."""

    @property
    def maximum_cohort_size(self) -> int:
        """A size that a round's cohort exceeds with probability at most 1e-9."""

    @property
    def minimum_cohort_size(self) -> int:
        """A size that a round's cohort falls below with probability at most 1e-9."""

    @property
    def amplification(self) -> Amplification:
        """The properties of the cohorts that a privacy accountant may assume."""


@dataclasses.dataclass(frozen=True)
class Poisson(BinomialCohorts):
    """Every client joins every round independently with the same probability.

    The probability is `cohort_size / len(client_ids)`, so that a cohort has
    `cohort_size` clients on average; it can be empty.

    Attributes:
      client_ids: the population.
      cohort_size: expected cohort size, above 0 and at most the population; need
        not be whole.
      seed: the seed of the draws. Amplification by sampling needs cohorts that are
        unknown to everybody who sees the results: keep the seed secret.

    Raises:
      ValueError: there are no clients, or the cohort size is out of range.
    """

    @property
    def sampling_rate(self) -> float:
        """Probability that a client joins a round."""
        return self.cohort_size / len(self.client_ids)

    def sample(self, round_number: int) -> tuple[str, ...]:
        """Ids of the round's clients; may be empty.

        Draws a binomial count and then a uniform subset of that size. The distribution
        is the same as if a coin decided for each client; the time is in proportion to
        the cohort.
        """
        check_round(round_number)
        generator = derived_generator("cohort", "poisson", self.seed, round_number)
        population = len(self.client_ids)
        count = generator.binomial(population, self.sampling_rate)
        indices = generator.choice(population, count, replace=False, shuffle=False)
        return pick(self.client_ids, indices)

    @property
    def amplification(self) -> Amplification:
        """Poisson sampling under add-or-remove-one."""
        return Amplification(
            "poisson",
            self.sampling_rate,
            len(self.client_ids),
            self.expected_cohort_size,
            "add_or_remove_one",
        )


@dataclasses.dataclass(frozen=True)
class FixedSize(WholeCohorts):
    """A uniformly random subset of exactly `cohort_size` clients each round.

    Attributes:
      client_ids: the population.
      cohort_size: a whole number of at least 1 and at most the population.
      seed: the seed of the draws; a secret, see `Poisson.seed`.

    Raises:
      ValueError: there are no clients, or the cohort size is out of range.
    """

    def sample(self, round_number: int) -> tuple[str, ...]:
        """The distinct ids of the round's cohort, in population order."""
        check_round(round_number)
        generator = derived_generator("cohort", "fixed_size", self.seed, round_number)
        indices = generator.choice(
            len(self.client_ids), int(self.cohort_size), replace=False, shuffle=False
        )
        return pick(self.client_ids, indices)

    @property
    def amplification(self) -> Amplification:
        """Sampling without replacement, under replace-one."""
        population = len(self.client_ids)
        return Amplification(
            "fixed_size",
            self.cohort_size / population,
            population,
            self.expected_cohort_size,
            "replace_one",
        )


@dataclasses.dataclass(frozen=True)
class Full:
    """Every client in every round.

    Attributes:
      client_ids: the population.
      seed: unused, since nothing is drawn; a field of every sampler.

    Raises:
      ValueError: there are no clients.
    """

    client_ids: Sequence[str]
    seed: int = 0

    def __post_init__(self) -> None:
        check_population(self.client_ids)

    def sample(self, round_number: int) -> tuple[str, ...]:
        """All client ids."""
        check_round(round_number)
        return tuple(self.client_ids)

    @property
    def expected_cohort_size(self) -> float:
        """The population."""
        return float(len(self.client_ids))

    @property
    def maximum_cohort_size(self) -> int:
        """The population."""
        return len(self.client_ids)

    @property
    def minimum_cohort_size(self) -> int:
        """The population."""
        return len(self.client_ids)

    @property
    def amplification(self) -> Amplification:
        """No amplification: a client takes part in every round."""
        population = len(self.client_ids)
        return Amplification(
            "none", 1.0, population, float(population), "add_or_remove_one"
        )


@dataclasses.dataclass(frozen=True)
class Shuffled(WholeCohorts):
    """Draws consecutive slices of a new random order in every epoch.

    An epoch has `len(client_ids) // cohort_size` rounds. The clients in the remainder
    of the division do not take part in the epoch; the remainder differs between epochs.
    A client takes part at most once in an epoch.

    Attributes:
      client_ids: the population.
      cohort_size: a whole number of at least 1 and at most the population.
      seed: the seed of the orders.

    Raises:
      ValueError: there are no clients, or the cohort size is out of range.
    """

    @property
    def rounds_per_epoch(self) -> int:
        """Rounds of an epoch, in which a client takes part at most once."""
        return len(self.client_ids) // int(self.cohort_size)

    def sample(self, round_number: int) -> tuple[str, ...]:
        """Ids of the round's clients; takes time in proportion to the population."""
        check_round(round_number)
        epoch, position = divmod(round_number - 1, self.rounds_per_epoch)
        generator = derived_generator("cohort", "shuffled", self.seed, epoch)
        order = generator.permutation(len(self.client_ids))
        size = int(self.cohort_size)
        return pick(self.client_ids, order[position * size : (position + 1) * size])

    @property
    def amplification(self) -> Amplification:
        """No amplification, under replace-one: orders depend on the population.

        Independent noise is charged as if a client took part in every round. This is an
        upper bound, since a client takes part in at most one round of an epoch.
        """
        population = len(self.client_ids)
        return Amplification(
            "none",
            self.cohort_size / population,
            population,
            self.expected_cohort_size,
            "replace_one",
            rounds_per_epoch=self.rounds_per_epoch,
        )
