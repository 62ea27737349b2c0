"""Samplers that keep a client's rounds apart, for mechanisms with correlated noise.

Clients are divided into b groups. Group g takes part in rounds g, g + b, g + 2b, ...,
so two rounds of a client are a multiple of b apart.
"""

from __future__ import annotations

import dataclasses
from typing import Optional

import numpy as np

from tfl_research.data import derived_generator
from tfl_research.sampling.amplification import Amplification
from tfl_research.sampling.cohort_sizes import (
    BinomialCohorts,
    WholeCohorts,
    check_round,
    pick,
)


def _check_separation(min_separation: int, largest: int, reason: str) -> None:
    if min_separation != int(min_separation) or not 1 <= min_separation <= largest:
        raise ValueError(
            f"min_separation must be a whole number from 1 to {largest} ({reason}), "
            f"got {min_separation}"
        )


@dataclasses.dataclass(frozen=True)
class MinSeparation(WholeCohorts):
    """Draws cohorts of a fixed size; a client's rounds are `min_separation` apart.

    Each of the b groups has a new random order in every epoch; the group's cohorts are
    consecutive slices of the order. The clients in the remainder of the division do not
    take part in the epoch; the remainder differs between epochs. With the largest
    separation, an epoch has one round of each group, and a client's rounds are exactly
    b apart.

    Attributes:
      client_ids: the population.
      cohort_size: a whole number of at least 1 and at most the population.
      seed: the seed of groups and orders; no secret, since there is no amplification.
      min_separation: b; None for the largest possible, `population // cohort_size`.

    Raises:
      ValueError: there are no clients, or a number is out of range.
    """

    min_separation: Optional[int] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        largest = len(self.client_ids) // int(self.cohort_size)
        if self.min_separation is not None:
            _check_separation(
                self.min_separation,
                largest,
                f"{len(self.client_ids)} clients, {int(self.cohort_size)} a round",
            )

    @property
    def separation(self) -> int:
        """b, also if `min_separation` is None."""
        if self.min_separation is not None:
            return int(self.min_separation)
        return len(self.client_ids) // int(self.cohort_size)

    @property
    def rounds_per_epoch(self) -> int:
        """Rounds of an epoch, in which a client takes part at most once."""
        smallest_group = len(self.client_ids) // self.separation
        return self.separation * (smallest_group // int(self.cohort_size))

    def sample(self, round_number: int) -> tuple[str, ...]:
        """Ids of the round's clients; takes time in proportion to the population."""
        check_round(round_number)
        visit, group = divmod(round_number - 1, self.separation)
        dealt = derived_generator("cohort", "min_separation", self.seed)
        members = dealt.permutation(len(self.client_ids))[group :: self.separation]
        epoch, position = divmod(visit, self.rounds_per_epoch // self.separation)
        generator = derived_generator(
            "cohort", "min_separation", self.seed, group, epoch
        )
        size = int(self.cohort_size)
        order = generator.permutation(members)
        return pick(self.client_ids, order[position * size : (position + 1) * size])

    @property
    def amplification(self) -> Amplification:
        """No amplification, under zero-out: the schedule depends on the population."""
        population = len(self.client_ids)
        return Amplification(
            "none",
            self.cohort_size / population,
            population,
            self.expected_cohort_size,
            "zero_out",
            min_separation=self.separation,
            rounds_per_epoch=self.rounds_per_epoch,
        )


@dataclasses.dataclass(frozen=True)
class CyclicPoisson(BinomialCohorts):
    """Poisson sampling within the group of the round.

    Every client is in one of b groups at random, independently of all others. In each
    round of its group a client joins with probability
    `cohort_size * min_separation / len(client_ids)`. This scheme amplifies banded
    matrix mechanisms (Choquette-Choo et al. 2023, arXiv 2306.08153, section 5). Since
    the groups are independent, adding or removing a client does not change the rounds
    of other clients.

    Attributes:
      client_ids: the population.
      cohort_size: expected cohort size, above 0 and at most
        `len(client_ids) / min_separation`; need not be whole. Cohorts can be empty.
      seed: the seed of groups and draws; a secret, see `Poisson.seed`.
      min_separation: b, a whole number from 1 to the population.

    Raises:
      ValueError: there are no clients, or a number is out of range.
    """

    min_separation: int

    def __post_init__(self) -> None:
        super().__post_init__()
        population = len(self.client_ids)
        _check_separation(
            self.min_separation,
            int(population / self.cohort_size),
            f"{population} clients, {self.cohort_size:g} a round",
        )

    @property
    def sampling_rate_in_turn(self) -> float:
        """Probability that a client joins a round of its group."""
        return self.amplification.sampling_rate_in_turn

    def sample(self, round_number: int) -> tuple[str, ...]:
        """Ids of the round's clients; may be empty.

        Takes time in proportion to the population.
        """
        check_round(round_number)
        turn = (round_number - 1) % self.min_separation
        dealt = derived_generator("cohort", "cyclic_poisson", self.seed)
        groups = dealt.integers(0, self.min_separation, len(self.client_ids))
        members = np.flatnonzero(groups == turn)
        generator = derived_generator(
            "cohort", "cyclic_poisson", self.seed, round_number
        )
        count = generator.binomial(len(members), self.sampling_rate_in_turn)
        return pick(
            self.client_ids,
            generator.choice(members, count, replace=False, shuffle=False),
        )

    @property
    def amplification(self) -> Amplification:
        """Poisson sampling within groups, under add-or-remove-one."""
        population = len(self.client_ids)
        return Amplification(
            "cyclic_poisson",
            self.cohort_size / population,
            population,
            self.expected_cohort_size,
            "add_or_remove_one",
            min_separation=int(self.min_separation),
            rounds_per_epoch=int(self.min_separation),
        )
