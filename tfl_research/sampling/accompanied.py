"""Cohorts that a participant which is no client always accompanies."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfl_research.sampling.amplification import Amplification
from tfl_research.sampling.samplers import Sampler


@dataclasses.dataclass(frozen=True)
class Accompanied:
    """A sampler's cohorts, with the same further participants in each.

    They are not of the population and count in no size; the server's own data are
    such a participant (`aggregators.TrustedRootFactory`).

    Attributes:
      inner: draws the clients.
      beside: ids that every round has after its clients'.

    Raises:
      ValueError: a participant that is one of the clients.
    """

    inner: Sampler
    beside: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in self.beside:
            if name in self.inner.client_ids:
                raise ValueError(f"beside has {name!r}, which is a client too")

    @property
    def client_ids(self) -> Sequence[str]:
        """See `Sampler.client_ids`; the clients alone."""
        return self.inner.client_ids

    def sample(self, round_number: int) -> tuple[str, ...]:
        """The round's clients, and whoever is beside them."""
        return (*self.inner.sample(round_number), *self.beside)

    @property
    def expected_cohort_size(self) -> float:
        """See `Sampler.expected_cohort_size`; of the clients alone."""
        return self.inner.expected_cohort_size

    @property
    def maximum_cohort_size(self) -> int:
        """See `Sampler.maximum_cohort_size`; of the clients alone."""
        return self.inner.maximum_cohort_size

    @property
    def minimum_cohort_size(self) -> int:
        """See `Sampler.minimum_cohort_size`; of the clients alone."""
        return self.inner.minimum_cohort_size

    @property
    def amplification(self) -> Amplification:
        """See `Sampler.amplification`; of the clients."""
        return self.inner.amplification
