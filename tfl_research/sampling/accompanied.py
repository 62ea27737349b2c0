"""Cohorts with further participants that are not clients."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfl_research.sampling.amplification import Amplification
from tfl_research.sampling.samplers import Sampler


@dataclasses.dataclass(frozen=True)
class Accompanied:
    """Draws a sampler's cohorts, and adds the same further participants in every round.

    Further participants, such as the server's own data for
    `aggregators.TrustedRootFactory`, are not in the population and do not count in any
    size.

    Attributes:
      inner: draws the clients.
      beside: ids of the further participants, which follow the clients in each round.

    Raises:
      ValueError: a further participant is one of the clients.
    """

    inner: Sampler
    beside: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in self.beside:
            if name in self.inner.client_ids:
                raise ValueError(
                    f"beside: {name!r} is also the name of a client; give another name"
                )

    @property
    def client_ids(self) -> Sequence[str]:
        """Ids of the clients, without those who accompany them."""
        return self.inner.client_ids

    def sample(self, round_number: int) -> tuple[str, ...]:
        """The round's clients, followed by the further participants."""
        return (*self.inner.sample(round_number), *self.beside)

    @property
    def expected_cohort_size(self) -> float:
        """Mean number of clients in a round, without those who accompany them."""
        return self.inner.expected_cohort_size

    @property
    def maximum_cohort_size(self) -> int:
        """Largest number of clients in a round, without those who accompany them."""
        return self.inner.maximum_cohort_size

    @property
    def minimum_cohort_size(self) -> int:
        """Least number of clients in a round, without those who accompany them."""
        return self.inner.minimum_cohort_size

    @property
    def amplification(self) -> Amplification:
        """The amplification of the clients' privacy."""
        return self.inner.amplification
