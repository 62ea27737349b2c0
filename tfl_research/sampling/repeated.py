"""Cohorts that stay for several rounds, for algorithms with several exchanges."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfl_research.sampling.amplification import Amplification
from tfl_research.sampling.cohort_sizes import check_round
from tfl_research.sampling.samplers import Sampler


@dataclasses.dataclass(frozen=True)
class Repeated:
    """Draws a sampler's cohorts, each for `times` rounds in a row.

    The clients' data have the same local steps in these rounds if they are
    `ClientData.with_exchanges(times)`.

    Attributes:
      inner: draws the cohorts.
      times: at least 1.

    Raises:
      ValueError: `times` is below 1.
    """

    inner: Sampler
    times: int

    def __post_init__(self) -> None:
        if self.times < 1:
            raise ValueError(f"times must be at least 1, got {self.times}")

    @property
    def client_ids(self) -> Sequence[str]:
        """The population, in a fixed order."""
        return self.inner.client_ids

    def sample(self, round_number: int) -> tuple[str, ...]:
        """The distinct ids of the round's cohort, in population order."""
        check_round(round_number)
        return self.inner.sample((round_number - 1) // self.times + 1)

    @property
    def expected_cohort_size(self) -> float:
        """Mean size of a cohort: the denominator of a private average."""
        return self.inner.expected_cohort_size

    @property
    def maximum_cohort_size(self) -> int:
        """A size that a round's cohort exceeds with probability at most 1e-9."""
        return self.inner.maximum_cohort_size

    @property
    def minimum_cohort_size(self) -> int:
        """A size that a round's cohort falls below with probability at most 1e-9."""
        return self.inner.minimum_cohort_size

    @property
    def amplification(self) -> Amplification:
        """No amplification: the rounds of a cohort are not drawn independently."""
        return dataclasses.replace(
            self.inner.amplification,
            kind="none",
            sampling_rate=1.0,
            min_separation=1,
            rounds_per_epoch=1,
        )
