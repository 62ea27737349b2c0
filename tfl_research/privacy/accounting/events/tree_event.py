"""Rounds of DP-FTRL: tree aggregation with restarts."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from tfl_research.privacy.accounting import events
from tfl_research.privacy.accounting.events.correlated_event import (
    CorrelatedEvent,
    check_positive_integers,
    participation_words,
)
from tfl_research.privacy.accounting.events.tree_sensitivity import (
    squared_sensitivities,
)
from tfl_research.sampling import Amplification


@dataclasses.dataclass(frozen=True)
class TreeEvent(CorrelatedEvent):
    """A round of DP-FTRL (Kairouz et al. 2021, arXiv 2103.00039).

    Neighbouring populations differ in one client, whose contributions are zero in one
    of the two ("zero_out"); the cohorts are the same. There is no amplification:
    cohorts need not be secret, nor random.

    Attributes:
      noise_multiplier: standard deviation of a node's noise over the l2 norm clip; 0
        means no privacy (ε = inf).
      restart_every: rounds of a tree; then the next tree begins.
      efficient: whether prefixes are Honaker's estimates; the nodes, and so the
        privacy, are the same.
      min_separation: two rounds of a client are at least so far apart.
      rounds_per_epoch: a client takes part at most once in each epoch of this many
        rounds.
      population: number of clients that can be sampled.
      cohort_size: expected size of a cohort.

    Raises:
      ValueError: a number is out of its range.
    """

    kind: ClassVar[str] = "tree"

    noise_multiplier: float
    restart_every: int
    efficient: bool
    min_separation: int
    rounds_per_epoch: int
    population: int
    cohort_size: float

    def __post_init__(self) -> None:
        events.check_noise_multiplier(self.noise_multiplier)
        check_positive_integers(
            restart_every=self.restart_every,
            min_separation=self.min_separation,
            rounds_per_epoch=self.rounds_per_epoch,
            population=self.population,
        )
        if self.rounds_per_epoch < self.min_separation:
            raise ValueError(
                f"rounds_per_epoch must be at least the min_separation of "
                f"{self.min_separation}, got {self.rounds_per_epoch}"
            )

    @classmethod
    def of(
        cls,
        noise_multiplier: float,
        amplification: Amplification,
        *,
        restart_every: int,
        efficient: bool = True,
    ) -> TreeEvent:
        """Makes the event of a tree's noise and a sampler's cohorts.

        Raises:
          ValueError: the sampler does not keep a client's rounds apart, or a number is
            out of its range.
        """
        if amplification.kind in ("poisson", "fixed_size"):
            raise ValueError(
                "tree aggregation needs a sampler that keeps a client's rounds apart, "
                f"but {amplification.kind} sampling does not: use the min_separation "
                "or the shuffled sampler"
            )
        return cls(
            float(noise_multiplier),
            int(restart_every),
            bool(efficient),
            int(amplification.min_separation),
            int(amplification.rounds_per_epoch),
            int(amplification.population),
            float(amplification.cohort_size),
        )

    @property
    def num_clients(self) -> int:
        return self.population

    @property
    def neighbouring_relation(self) -> str:
        """The neighbouring relation: which data sets the guarantee compares."""
        return "zero_out"

    def squared_sensitivity(self, rounds: int) -> np.ndarray:
        """Computes S² after each round, float64 `[rounds]`; see `tree_sensitivity`."""
        return squared_sensitivities(
            rounds, self.restart_every, self.min_separation, self.rounds_per_epoch
        )

    def description(self) -> list[str]:
        estimate = " (Honaker's estimate)" if self.efficient else ""
        return [
            "DP-FTRL by tree aggregation (Kairouz et al. 2021, arXiv 2103.00039): each "
            "client's update is clipped in l2 norm; Gaussian noise of noise multiplier "
            f"{self.noise_multiplier:g} is added to every node of a binary tree over "
            f"{self.restart_every} rounds, after which the next tree begins; rounds "
            f"release the differences of the trees' noisy prefix sums{estimate}, "
            f"divided by the fixed expected cohort {self.cohort_size:g}.",
            "Participation: "
            f"{participation_words(self.min_separation, self.rounds_per_epoch)}. No "
            "amplification by sampling is claimed.",
        ]
