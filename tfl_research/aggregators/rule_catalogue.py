"""Specifications of the robust rules that select, trim or take medians."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Optional

from tfl_research import settings
from tfl_research.aggregators.rule_specification import RuleSettings
from tfl_research.aggregators.specification import register
from tfl_research.errors import SettingError

if TYPE_CHECKING:
    import tensorflow as tf

    from tfl_research.aggregators.rules import Rows

_SELECTS = (
    "it follows a few of the updates, so that one client can move its result by up to "
    "the distance between two clipped updates, 2C, and not by C/n"
)
_PER_COORDINATE = (
    "one client can move every coordinate of its result at once, by up to the gap "
    "between neighbouring values: up to 2C in l2 norm a coordinate, and not C/n in all"
)
_KRUM = "Blanchard et al. 2017, arXiv 1703.02757"


@register
@dataclasses.dataclass(frozen=True)
class CoordinateMedian(RuleSettings):
    """The median of each coordinate.

    Example:
      >>> tfl.Experiment("heart", aggregator=tfl.aggregators.CoordinateMedian()).check()
    """

    NAME = "coordinate_median"
    SUMMARY = "median of each coordinate"
    PAPERS = ("Yin et al. 2018, arXiv 1803.01498",)
    SOURCE = "arXiv 1803.01498, Theorem 1: α < 1/2"
    WEIGHTED = True
    STANDS_IN = True
    SENSITIVITY = _PER_COORDINATE
    BY_COORDINATE = "its result is zero where most clients send nothing"

    def apply(self, rows: Rows, *, center: Optional[tf.Tensor] = None) -> tf.Tensor:
        from tfl_research.aggregators import rules

        return rules.coordinate_median(rows)


@register
@dataclasses.dataclass(frozen=True)
class TrimmedMean(RuleSettings):
    """The mean of each coordinate without its least and largest values.

    Example:
      >>> aggregator = tfl.aggregators.TrimmedMean(trim=0.2)
      >>> tfl.Experiment("mnist", aggregator=aggregator).check()
    """

    NAME = "trimmed_mean"
    SUMMARY = "mean of each coordinate without its extreme values"
    PAPERS = ("Yin et al. 2018, arXiv 1803.01498",)
    SOURCE = "arXiv 1803.01498, Definition 2: β < 1/2"
    WEIGHTED = True
    STANDS_IN = True
    # The rule trims a fixed share of the weight at either end, whatever the weights.
    BROKEN_BY_WEIGHT = False
    SENSITIVITY = _PER_COORDINATE
    BY_COORDINATE = "it trims away the values of coordinates that few clients send"

    trim: Optional[float] = settings.real(
        None,
        "Values that trimmed_mean trims at either end: a count, or below 0.5 a share "
        "of the cohort; --byzantine when not given.",
        minimum=0,
    )

    def check(self) -> None:
        if self.trim is not None and self.trim >= 0.5 and self.trim != int(self.trim):
            raise self.refused("trim", "must be below 0.5, or a whole number")
        if self.trim is None and self.byzantine is None:
            raise SettingError(
                f"--aggregator={self.NAME}: needs --trim or --byzantine too"
            )
        super().check()
        share, count = self.hostile_share, self.cut
        if share is not None and share * self.bucket_size >= 0.5:
            # Each hostile client can spoil one bucket.
            raise self.refused_choice(
                "the trim ratio is a share of the clients, so trim x bucket_size must "
                f"be below 0.5, got {share:g} with bucket_size={self.bucket_size}"
            )
        if isinstance(count, int) and count < (self.byzantine or 0):
            raise self.refused_choice(
                f"trim must be at least byzantine, got trim={count} and "
                f"byzantine={self.byzantine}"
            )

    @property
    def cut(self) -> float:
        """What is cut off at each end: a count (int) or a share (float)."""
        if self.trim is None:
            return self.byzantine or 0
        return self.trim if 0 < self.trim < 0.5 else int(self.trim)

    @property
    def hostile(self) -> Optional[int]:
        """f: `byzantine`, or the number of updates that are cut off per end."""
        if self.byzantine is None and isinstance(self.cut, int):
            return self.cut
        return self.byzantine

    @property
    def hostile_share(self) -> Optional[float]:
        return None if isinstance(self.cut, int) else self.cut

    @property
    def per_byzantine(self) -> int:
        if self.hostile_share is not None:
            # A share is always less than half of the cohort.
            return 2 if self.byzantine else 0
        return super().per_byzantine

    def apply(self, rows: Rows, *, center: Optional[tf.Tensor] = None) -> tf.Tensor:
        from tfl_research.aggregators import rules

        return rules.trimmed_mean(rows, trim=self.cut)


@register
@dataclasses.dataclass(frozen=True)
class Krum(RuleSettings):
    """The update that is closest to its neighbours.

    Example:
      >>> tfl.Experiment("mnist", aggregator=tfl.aggregators.Krum(byzantine=2)).check()
    """

    NAME = "krum"
    SUMMARY = "the update closest to its neighbours"
    PAPERS = (_KRUM,)
    PER_BYZANTINE, AT_LEAST, SOURCE = 2, 3, "arXiv 1703.02757: 2f + 2 < n"
    NEEDS_BYZANTINE = True
    SENSITIVITY = _SELECTS

    def apply(self, rows: Rows, *, center: Optional[tf.Tensor] = None) -> tf.Tensor:
        from tfl_research.aggregators import rules

        return rules.krum(rows, byzantine=self.byzantine or 0)


@register
@dataclasses.dataclass(frozen=True)
class MultiKrum(RuleSettings):
    """The mean of the updates that are closest to their neighbours.

    Example:
      >>> aggregator = tfl.aggregators.MultiKrum(byzantine=2, krum_select=5)
      >>> tfl.Experiment("mnist", aggregator=aggregator).check()
    """

    NAME = "multi_krum"
    SUMMARY = "mean of the updates closest to their neighbours"
    PAPERS = (_KRUM,)
    PER_BYZANTINE, AT_LEAST, SOURCE = 2, 3, "arXiv 1703.02757: 2f + 2 < n"
    NEEDS_BYZANTINE = True
    SENSITIVITY = _SELECTS

    krum_select: Optional[int] = settings.integer(
        None,
        "Number of updates that multi_krum averages; n - f - 2 of n when not given.",
        minimum=1,
    )

    def apply(self, rows: Rows, *, center: Optional[tf.Tensor] = None) -> tf.Tensor:
        from tfl_research.aggregators import rules

        return rules.multi_krum(
            rows, byzantine=self.byzantine or 0, select=self.krum_select
        )


@register
@dataclasses.dataclass(frozen=True)
class Bulyan(RuleSettings):
    """A trimmed mean of the updates that Krum selects one after another.

    Example:
      >>> aggregator = tfl.aggregators.Bulyan(byzantine=1)
      >>> tfl.Experiment("mnist", aggregator=aggregator).check()
    """

    NAME = "bulyan"
    SUMMARY = "trimmed mean of updates that Krum selects"
    PAPERS = ("El Mhamdi et al. 2018, arXiv 1802.07927",)
    PER_BYZANTINE, AT_LEAST, SOURCE = 4, 3, "arXiv 1802.07927: n >= 4f + 3"
    NEEDS_BYZANTINE = True
    SENSITIVITY = _SELECTS
    BY_COORDINATE = "its result is about zero where most clients send nothing"

    def apply(self, rows: Rows, *, center: Optional[tf.Tensor] = None) -> tf.Tensor:
        from tfl_research.aggregators import rules

        return rules.bulyan(rows, byzantine=self.byzantine or 0)


@register
@dataclasses.dataclass(frozen=True)
class GeometricMedian(RuleSettings):
    """The point with the least sum of distances to the updates.

    Example:
      >>> tfl.Experiment("heart", aggregator=tfl.aggregators.GeometricMedian()).check()
    """

    NAME = "geometric_median"
    SUMMARY = "the point with the smallest sum of distances to the updates"
    PAPERS = ("Pillutla et al. 2022, arXiv 1912.13445",)
    SOURCE = "arXiv 1912.13445: less than half"
    WEIGHTED = True
    STANDS_IN = True
    SENSITIVITY = _SELECTS

    def apply(self, rows: Rows, *, center: Optional[tf.Tensor] = None) -> tf.Tensor:
        from tfl_research.aggregators import rules

        return rules.geometric_median(rows)


@register
@dataclasses.dataclass(frozen=True)
class MeanAroundMedian(RuleSettings):
    """The mean of each coordinate's n - f values closest to its median.

    Example:
      >>> aggregator = tfl.aggregators.MeanAroundMedian(byzantine=3)
      >>> tfl.Experiment("mnist", aggregator=aggregator).check()
    """

    NAME = "mean_around_median"
    SUMMARY = "mean of each coordinate's values closest to its median"
    PAPERS = ("Xie et al. 2018, arXiv 1802.10116",)
    SOURCE = "arXiv 1802.10116: 2q < m"
    NEEDS_BYZANTINE = True
    SENSITIVITY = _PER_COORDINATE
    BY_COORDINATE = "its result is about zero where most clients send nothing"

    def apply(self, rows: Rows, *, center: Optional[tf.Tensor] = None) -> tf.Tensor:
        from tfl_research.aggregators import rules

        return rules.mean_around_median(rows, byzantine=self.byzantine or 0)


@register
@dataclasses.dataclass(frozen=True)
class SignMajority(RuleSettings):
    """The sign that most clients send in each coordinate.

    Example:
      >>> experiment = tfl.Experiment(
      ...     "heart",
      ...     aggregator=tfl.aggregators.SignMajority(),
      ...     server_optimizer=tfl.SGD(0.003),
      ... )
      >>> experiment.check()
    """

    NAME = "sign_majority"
    SUMMARY = "majority of signs in each coordinate"
    PAPERS = ("Bernstein et al. 2018, arXiv 1810.05291",)
    SOURCE = "arXiv 1810.05291: less than half"
    WEIGHTED = True
    SENSITIVITY = (
        "one client's votes have l2 norm √d, whatever its update was clipped to"
    )
    SUMS_ONLY = True
    BY_COORDINATE = "a few hostile votes decide the coordinates that few clients send"
    RESULT_IS_SIGN: ClassVar[bool] = True

    def apply(self, rows: Rows, *, center: Optional[tf.Tensor] = None) -> tf.Tensor:
        from tfl_research.aggregators import rules

        return rules.sign_majority(rows)
