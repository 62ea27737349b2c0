"""Draws cohorts by one sampler up to a round, and by another sampler afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfl_research.sampling.amplification import Amplification
from tfl_research.sampling.samplers import Sampler


@dataclasses.dataclass(frozen=True)
class Successive:
    """Draws cohorts by equal samplers with different seeds, one after another.

    Attributes:
      parts: pairs (number of rounds before, sampler), in order. The last part that
        begins before a round draws the round's cohort. The first part begins with
        round 1.

    Raises:
      ValueError: no part has the first round.
    """

    parts: tuple[tuple[int, Sampler], ...]

    def __post_init__(self) -> None:
        if not self.parts or self.parts[0][0] != 0:
            raise ValueError(
                f"the first part must begin after 0 rounds, got {self.parts}"
            )

    @property
    def _last(self) -> Sampler:
        return self.parts[-1][1]

    @property
    def client_ids(self) -> Sequence[str]:
        """The population, in a fixed order."""
        return self._last.client_ids

    def sample(self, round_number: int) -> tuple[str, ...]:
        """The distinct ids of the round's cohort, in population order."""
        fitting = [sampler for after, sampler in self.parts if after < round_number]
        return (fitting[-1] if fitting else self._last).sample(round_number)

    @property
    def expected_cohort_size(self) -> float:
        """Mean size of a cohort: the denominator of a private average."""
        return self._last.expected_cohort_size

    @property
    def maximum_cohort_size(self) -> int:
        """A size that a round's cohort exceeds with probability at most 1e-9."""
        return self._last.maximum_cohort_size

    @property
    def minimum_cohort_size(self) -> int:
        """A size that a round's cohort falls below with probability at most 1e-9."""
        return self._last.minimum_cohort_size

    @property
    def amplification(self) -> Amplification:
        """The amplification of one part: each part draws its rounds independently."""
        return self._last.amplification
