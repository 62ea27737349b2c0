"""Rounds of banded matrix factorisation, with and without amplification."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Optional

import numpy as np

from tfl_research.privacy.accounting import events
from tfl_research.privacy.accounting.events.correlated_event import (
    CorrelatedEvent,
    check_positive_integers,
    participation_words,
)
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.sampling import Amplification


@dataclasses.dataclass(frozen=True)
class MatrixEvent(CorrelatedEvent):
    """A round of DP-FTRL with a banded matrix (arXiv 2306.08153).

    The noise is C^-1 ξ. C is lower triangular, with columns of l2 norm 1 and `bands`
    non-zero diagonals. A client's rounds are at least `bands` apart, so no row of C
    has non-zero entries in two rounds of a client. So k rounds of one client have
    sensitivity √k.

    Attributes:
      noise_multiplier: standard deviation of ξ over the l2 norm clip; 0 means no
        privacy (ε = inf).
      rounds: rows of the matrix; later rounds begin the matrix again, with new ξ.
      bands: diagonals of C, at least 1 (independent noise).
      min_separation: two rounds of a client are at least so far apart; at least
        `bands`.
      rounds_per_epoch: a client takes part at most once in each epoch of this many
        rounds.
      sampling_rate: the probability that a client joins a round in its turn; turns
        come every `min_separation` rounds. None for no amplification.
      population: number of clients that can be sampled.
      cohort_size: expected size of a cohort.
      neighbouring_relation: "add_or_remove_one" or, without amplification,
        "zero_out".

    Raises:
      ValueError: a number is out of its range, there are more bands than the
        separation, or the relation does not fit the sampling rate.
    """

    kind: ClassVar[str] = "banded_matrix"

    noise_multiplier: float
    rounds: int
    bands: int
    min_separation: int
    rounds_per_epoch: int
    sampling_rate: Optional[float]
    population: int
    cohort_size: float
    neighbouring_relation: str

    def __post_init__(self) -> None:
        events.check_noise_multiplier(self.noise_multiplier)
        check_positive_integers(
            rounds=self.rounds,
            bands=self.bands,
            min_separation=self.min_separation,
            rounds_per_epoch=self.rounds_per_epoch,
            population=self.population,
        )
        if self.bands > min(self.min_separation, self.rounds):
            raise ValueError(
                f"bands must be at most the {self.rounds} rounds and at most the "
                f"sampler's min_separation of {self.min_separation}, got {self.bands}: "
                "use fewer bands, or the min_separation or cyclic_poisson sampler"
            )
        if self.rounds_per_epoch < self.min_separation:
            raise ValueError(
                f"rounds_per_epoch must be at least the min_separation of "
                f"{self.min_separation}, got {self.rounds_per_epoch}"
            )
        relation = "zero_out" if self.sampling_rate is None else "add_or_remove_one"
        if self.neighbouring_relation != relation:
            raise ValueError(
                f"neighbouring_relation must be {relation!r} with sampling_rate "
                f"{self.sampling_rate}, got {self.neighbouring_relation!r}"
            )
        if self.sampling_rate is not None and not 0 < self.sampling_rate <= 1:
            raise ValueError(
                f"sampling_rate must be in (0, 1], got {self.sampling_rate}"
            )

    @property
    def num_clients(self) -> int:
        return self.population

    @property
    def rate(self) -> Optional[float]:
        return self.sampling_rate

    @classmethod
    def of(
        cls,
        noise_multiplier: float,
        amplification: Amplification,
        *,
        rounds: int,
        bands: int,
    ) -> MatrixEvent:
        """Makes the event of a matrix' noise and a sampler's cohorts.

        Raises:
          ValueError: the sampler does not keep a client's rounds `bands` apart, or a
            number is out of its range.
        """
        if amplification.kind in ("poisson", "fixed_size"):
            raise ValueError(
                "banded matrix noise needs a sampler that keeps a client's rounds "
                f"apart, but {amplification.kind} sampling does not: use the "
                "min_separation or the cyclic_poisson sampler"
            )
        amplified = amplification.kind == "cyclic_poisson"
        return cls(
            float(noise_multiplier),
            int(rounds),
            int(bands),
            int(amplification.min_separation),
            int(amplification.rounds_per_epoch),
            float(amplification.sampling_rate_in_turn) if amplified else None,
            int(amplification.population),
            float(amplification.cohort_size),
            "add_or_remove_one" if amplified else "zero_out",
        )

    def squared_sensitivity(self, rounds: int) -> np.ndarray:
        """Returns the largest number of a client's rounds (arXiv 2306.08153, Thm 2)."""
        return np.ceil(np.arange(1, rounds + 1) / self.rounds_per_epoch)

    def rdp(self, rounds: int, orders: np.ndarray) -> np.ndarray:
        turn = self._turn()
        if turn is None:
            return super().rdp(rounds, orders)
        return turn.rdp(self._turns(rounds), orders)

    def epsilon_curve(self, rounds: int, delta: float, accountant: str) -> np.ndarray:
        turn = self._turn()
        if turn is None:
            return super().epsilon_curve(rounds, delta, accountant)
        by_turn = turn.epsilon_curve(self._turns(rounds), delta, accountant)
        return np.repeat(by_turn, self.min_separation)[:rounds]

    def epsilon(self, rounds: int, delta: float, accountant: str) -> float:
        """Returns the last value of `epsilon_curve`; the last digits can differ."""
        turn = self._turn()
        if turn is None:
            return super().epsilon(rounds, delta, accountant)
        return turn.epsilon(self._turns(rounds), delta, accountant)

    def as_gaussian_rounds(self, rounds: int) -> tuple[GaussianEvent, int]:
        """Returns the Gaussian of each turn of a client, or of each of its rounds."""
        turn = self._turn()
        if turn is not None:
            return turn, self._turns(rounds)
        alone = GaussianEvent.poisson(self.noise_multiplier, 1.0)
        return alone, int(self.squared_sensitivity(rounds)[-1])

    def _turn(self) -> GaussianEvent | None:
        """Returns the event of one turn of a client; None without amplification.

        Turns are `min_separation` >= `bands` rounds apart, so no row of C has two turns
        of a client: the turns compose like rounds of the Poisson-sampled Gaussian
        (arXiv 2306.08153, Theorem 4).
        """
        if self.sampling_rate is None:
            return None
        return GaussianEvent.poisson(self.noise_multiplier, self.sampling_rate)

    def _turns(self, rounds: int) -> int:
        return -(-rounds // self.min_separation)

    def description(self) -> list[str]:
        lines = [
            "DP-FTRL by banded matrix factorisation (Choquette-Choo et al. 2023, arXiv "
            "2306.08153): each client's update is clipped in l2 norm; Gaussian noise "
            f"of noise multiplier {self.noise_multiplier:g}, correlated over "
            f"{self.bands} rounds by a matrix of {self.rounds} rounds, is added to the "
            "sum; the sum is divided by the fixed expected cohort "
            f"{self.cohort_size:g}."
        ]
        if self.sampling_rate is None:
            words = participation_words(self.min_separation, self.rounds_per_epoch)
            lines.append(
                f"Participation: {words}. No amplification by sampling is claimed."
            )
        elif self.sampling_rate >= 1:
            lines.append(
                f"Participation: each of {self.population} clients takes part every "
                f"{self.min_separation} rounds, so that nothing is amplified."
            )
        else:
            lines.append(
                f"Sampling: each of {self.population} clients has its turn every "
                f"{self.min_separation} rounds, and then joins independently with "
                f"probability {self.sampling_rate:g}; nobody must learn which clients "
                "took part (keep the sampler's seed secret)."
            )
        return lines
