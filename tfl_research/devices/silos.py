"""Rounds of silos that can be down, with a minimum number of reports."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

from tfl_research.data import Cohort, derived_generator
from tfl_research.sampling import Amplification, Sampler


@dataclasses.dataclass(frozen=True)
class SiloOutcome:
    """The outcome of a round for its silos.

    Attributes:
      client_ids: silos that reported; empty for an abandoned round.
      selected: number of selected silos.
      dropped_out: number of silos that did not report.
      abandoned: whether fewer silos than the minimum reported.
    """

    client_ids: tuple[str, ...]
    selected: int
    dropped_out: int
    abandoned: bool

    def prepared(self, cohort: Cohort) -> Cohort:
        """Returns the cohort without changes."""
        return cohort

    def columns(self) -> collections.OrderedDict[str, float]:
        """Returns the outcome's cells of metrics.csv."""
        return collections.OrderedDict(
            selected=self.selected,
            dropped_out=self.dropped_out,
            abandoned=int(self.abandoned),
        )


@dataclasses.dataclass(frozen=True)
class UnreliableSilos:
    """Removes the silos that are down in a round from a sampler's cohorts.

    A round with fewer than `minimum` reports is abandoned: nothing is aggregated and
    nothing released, as NVIDIA FLARE's scatter-and-gather waits for its `min_clients`.

    Attributes:
      inner: the sampler that selects silos.
      drop_out: probability that a selected silo does not report, in [0, 1).
      minimum: number of reports that a round needs, at least 1.
      seed: seed of the draw that decides which silos are down.

    Raises:
      ValueError: a number is out of range, or no cohort can reach the minimum.
    """

    inner: Sampler
    drop_out: float
    minimum: int = 1
    seed: int = 0
    # For each round from 1, the number of abandoned rounds before it.
    _abandoned: list[int] = dataclasses.field(
        default_factory=lambda: [0], init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not 0 <= self.drop_out < 1:
            raise ValueError(f"drop_out must be in [0, 1), got {self.drop_out}")
        if not 1 <= self.minimum <= self.inner.maximum_cohort_size:
            raise ValueError(
                f"minimum must be from 1 to {self.inner.maximum_cohort_size}, the "
                f"largest cohort, got {self.minimum}"
            )

    @property
    def client_ids(self) -> Sequence[str]:
        """The population, in a fixed order."""
        return self.inner.client_ids

    def outcome(self, round_number: int) -> SiloOutcome:
        """Returns the outcome of a round: the silos that reported."""
        selected = self.inner.sample(round_number)
        reports = tuple(
            client_id
            for client_id in selected
            if derived_generator(
                "silo_drop_out", self.seed, round_number, client_id
            ).random()
            >= self.drop_out
        )
        abandoned = len(reports) < self.minimum
        return SiloOutcome(
            () if abandoned else reports,
            len(selected),
            len(selected) - len(reports),
            abandoned,
        )

    def abandoned_before(self, round_number: int) -> int:
        """Counts the abandoned rounds among rounds 1 to `round_number` - 1."""
        counts = self._abandoned
        while len(counts) < round_number:
            counts.append(counts[-1] + self.outcome(len(counts)).abandoned)
        return counts[round_number - 1]

    def sample(self, round_number: int) -> tuple[str, ...]:
        """Returns the silos of a round; empty if the round is abandoned."""
        return self.outcome(round_number).client_ids

    @property
    def expected_cohort_size(self) -> float:
        """Expected number of reports, without abandoning rounds."""
        return self.inner.expected_cohort_size * (1 - self.drop_out)

    @property
    def maximum_cohort_size(self) -> int:
        """A size that a round's cohort exceeds with probability at most 1e-9."""
        return self.inner.maximum_cohort_size

    @property
    def minimum_cohort_size(self) -> int:
        """`minimum`; a round with fewer is abandoned."""
        return self.minimum

    @property
    def amplification(self) -> Amplification:
        """No amplification: it is not secret whether a silo is down.

        Abandoned rounds release nothing and do not count, so that a separation in
        rounds is not a separation in releases. With one more silo a round might not be
        abandoned, so that add-or-remove-one becomes zero-out.
        """
        amplification = self.inner.amplification
        relation = amplification.neighbouring_relation
        return dataclasses.replace(
            amplification,
            kind="none",
            sampling_rate=1.0,
            neighbouring_relation=(
                "zero_out" if relation == "add_or_remove_one" else relation
            ),
            min_separation=1,
            rounds_per_epoch=1,
        )
