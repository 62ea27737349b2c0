"""Specifications of robust rules: functions of a cohort's stacked updates.

This module does not import TensorFlow, so that an experiment can be checked before the
slow import.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Optional

from tfl_research import settings
from tfl_research.aggregators.specification import (
    AGGREGATORS,
    Act,
    AggregatorContext,
    AggregatorSettings,
)
from tfl_research.errors import SettingError

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_federated as tff

    from tfl_research.aggregators.rules import Rows
    from tfl_research.aggregators.stacking import StackingFactory

SKIP = "skip"
_MIXING = Act(
    "nearest_neighbour_mixing",
    "it puts one client's update into many rows, so that the client's part is not "
    "bounded",
    False,
)
_BUCKETING = Act(
    "bucketing",
    "the mean of a bucket keeps the bound, but the rule that follows selects or trims "
    "the buckets",
    False,
)


def _stand_ins() -> dict[str, type[RuleSettings]]:
    """Returns the rules that can replace another rule in a breakdown, by name."""
    stand_ins: dict[str, type[RuleSettings]] = {MeanRule.NAME: MeanRule}
    for name, chosen in AGGREGATORS.items():
        if issubclass(chosen, RuleSettings) and chosen.STANDS_IN:
            stand_ins[name] = chosen
    return stand_ins


@dataclasses.dataclass(frozen=True)
class RuleSettings(AggregatorSettings):
    """A rule over the stacked updates of a cohort, some of which may be hostile.

    A subclass gives the rule as a function of rows. The rule withstands f hostile rows
    among n >= PER_BYZANTINE · f + AT_LEAST rows. A round with fewer rows is a
    breakdown.

    Attributes:
      PER_BYZANTINE: rows that the rule needs for every hostile row.
      AT_LEAST: rows that the rule needs in addition.
      SOURCE: source of the condition.
      NEEDS_BYZANTINE: whether f must be given.
      STANDS_IN: whether `on_breakdown` may name the rule as a stand-in rule. The
        stand-in rule gets the `byzantine` of the rule that it replaces.
      KEEPS_CENTER: whether the rule starts from a centre that is kept between rounds.
      BROKEN_BY_WEIGHT: whether a round of weighted clients is a breakdown when the
        heaviest f clients have half of the weight.

    Example:
      An experiment chooses the registered rule by its name:

      >>> import dataclasses
      >>> @tfl.aggregators.register
      ... @dataclasses.dataclass(frozen=True)
      ... class Midrange(tfl.aggregators.RuleSettings):
      ...     NAME = "midrange"
      ...     SUMMARY = "middle between the least and the largest value of a coordinate"
      ...     PER_BYZANTINE, AT_LEAST, SOURCE = 0, 1, "no robust rule"
      ...
      ...     def apply(self, rows, *, center=None):
      ...         import numpy as np, tensorflow as tf
      ...         there = rows.present[:, None]
      ...         least = tf.reduce_min(tf.where(there, rows.values, np.inf), axis=0)
      ...         most = tf.reduce_max(tf.where(there, rows.values, -np.inf), axis=0)
      ...         return (least + most) / 2
      >>> tfl.Experiment("heart", aggregator="midrange").check()
      >>> from tfl_research.aggregators import rules
      >>> rows = rules.screen([[0.0, 1.0], [1.0, 1.0], [4.0, 7.0]])
      >>> Midrange().apply(rows).numpy()
      array([2., 4.], dtype=float32)
    """

    IS_RULE: ClassVar[bool] = True
    PER_BYZANTINE: ClassVar[int] = 2
    AT_LEAST: ClassVar[int] = 1
    SOURCE: ClassVar[str] = "no source given"
    WEIGHTED: ClassVar[bool] = False
    NEEDS_BYZANTINE: ClassVar[bool] = False
    STANDS_IN: ClassVar[bool] = False
    KEEPS_CENTER: ClassVar[bool] = False
    BROKEN_BY_WEIGHT: ClassVar[bool] = True

    byzantine: Optional[int] = settings.integer(
        None,
        "f, the number of clients of a cohort that may be hostile. krum, multi_krum, "
        "bulyan, mean_around_median and --neighbour_mixing need this flag; "
        "trimmed_mean trims as many values at either end.",
        minimum=0,
    )
    bucket_size: int = settings.integer(
        1, "Before the rule, average random buckets of this many updates.", minimum=1
    )
    neighbour_mixing: bool = settings.switch(
        False,
        "Before the rule, replace every update by the mean of the n - f updates "
        "closest to it.",
    )
    on_breakdown: Optional[str] = settings.choice(
        None,
        "What happens in a round with too few clients for the rule, or with more "
        "hostile clients than the rule expects. skip leaves the model as it is; the "
        "name of another rule applies that rule, if the round has enough clients for "
        "that rule. Needed if the sampler can draw such rounds.",
        lambda: (SKIP, *_stand_ins()),
    )

    def apply(self, rows: Rows, *, center: Optional[tf.Tensor] = None) -> tf.Tensor:
        """Aggregates rows to one update; imports TensorFlow.

        Args:
          rows: screened rows `[n, d]`; some rows may be padding. If the settings have
            bucketing or mixing, the rows are already bucketed and mixed.
          center: float32 `[d]`, the centre, for rules with KEEPS_CENTER.

        Returns:
          float32 `[d]`.
        """
        raise NotImplementedError(f"{type(self).__name__}.apply")

    def next_center(self, center: Any, result: Any) -> Any:
        """Returns the centre after a round, float32 `[d]`, for rules with KEEPS_CENTER.

        Args:
          center: float32 `[d]`, the centre before the round.
          result: float32 `[d]`, the result of the round.
        """
        del center
        return result

    def check(self) -> None:
        if self.NEEDS_BYZANTINE and self.byzantine is None:
            raise SettingError(f"--aggregator={self.NAME}: needs --byzantine too")
        if self.neighbour_mixing and self.byzantine is None:
            raise SettingError("--neighbour_mixing: needs --byzantine too")
        try:
            _ = self.stand_in
        except SettingError:
            raise self.refused(
                "on_breakdown",
                "needs --byzantine, the number of values that it trims at either end; "
                "give --byzantine too",
            ) from None

    @property
    def stand_in(self) -> Optional[RuleSettings]:
        """The rule for a breakdown; None if the round is then skipped."""
        if self.on_breakdown is None or self.on_breakdown == SKIP:
            return None
        if self.on_breakdown == MeanRule.NAME:
            return MeanRule()
        return _stand_ins()[self.on_breakdown](byzantine=self.byzantine)

    @property
    def stacked(self) -> bool:
        return True

    @property
    def acts(self) -> tuple[Act, ...]:
        bucketing = (_BUCKETING,) if self.bucket_size > 1 else ()
        mixing = (_MIXING,) if self.neighbour_mixing else ()
        return (*super().acts, *bucketing, *mixing)

    @property
    def hostile(self) -> Optional[int]:
        """f, the hostile rows that the rule withstands; None if not given."""
        return self.byzantine

    @property
    def hostile_share(self) -> Optional[float]:
        """The hostile share that the rule withstands; None for a count."""
        return None

    @property
    def per_byzantine(self) -> int:
        """How many rows, after bucketing, the rule needs for a hostile row."""
        return max(self.PER_BYZANTINE, 2 if self.neighbour_mixing else 0)

    @property
    def smallest_cohort(self) -> int:
        """The smallest cohort for which the rule's condition holds."""
        rows = max(self.per_byzantine * (self.hostile or 0) + self.AT_LEAST, 1)
        return (rows - 1) * self.bucket_size + 1

    @property
    def takes_weights(self) -> bool:
        return self.WEIGHTED and not self.neighbour_mixing and self.bucket_size == 1

    def check_weights(self, kind: str) -> None:
        super().check_weights(kind)
        if kind != "uniform" and not self.takes_weights:
            raise self.refused_choice(
                "mixing and bucketing are defined for equal weights only; use uniform "
                "client weighting"
            )

    def check_cohort(self, smallest: int, largest: int) -> None:
        if self.stacked:
            self.check_stack(smallest, largest)

    def check_stack(self, smallest: int, largest: int) -> None:
        """Checks the rule's condition on n against the possible sizes of the stack.

        Args:
          smallest: smallest number of clients in a cohort.
          largest: largest number of clients in a cohort.

        Raises:
          SettingError: no cohort is large enough for the rule or its stand-in rule; or
            some cohorts are too small, and `on_breakdown` is not given.
        """
        self._check_largest(largest)
        if self.stand_in is not None:
            self.stand_in._check_largest(largest)
        if self.smallest_cohort > smallest and self.on_breakdown is None:
            raise self.refused_choice(
                f"{self._condition}, but a round can have as few as {smallest} "
                "clients; give --on_breakdown, which says what happens in such a "
                "round, or --sampler=fixed"
            )

    def _check_largest(self, largest: int) -> None:
        if self.smallest_cohort > largest:
            raise self.refused_choice(
                f"{self._condition}, got at most {largest}; raise --cohort_size or "
                "lower --byzantine"
            )

    @property
    def _condition(self) -> str:
        return (
            f"{self.describe()} needs cohorts of at least {self.smallest_cohort} "
            f"clients ({self.SOURCE})"
        )

    def describe(self) -> str:
        """Describes the rule and the parameters of its condition in words."""
        words = [self.NAME]
        if self.hostile:
            words.append(f"for {self.hostile} hostile clients")
        if self.bucket_size > 1:
            words.append(f"on buckets of {self.bucket_size}")
        return " ".join(words)

    def build(self, context: AggregatorContext) -> tff.aggregators.AggregationFactory:
        return self.build_stacked(context)

    def build_stacked(self, context: AggregatorContext) -> StackingFactory:
        from tfl_research.aggregators.stacking import StackingFactory

        return StackingFactory(
            self,
            capacity=context.maximum_cohort_size,
            smallest_cohort=context.minimum_cohort_size,
            weighted=context.weighted,
            seed=context.seed,
        )


@dataclasses.dataclass(frozen=True)
class MeanRule(RuleSettings):
    """The mean of stacked updates, which is not a robust rule.

    The rule is not registered, since `Mean` needs no stack. Attacks that see all
    updates, and `on_breakdown`, use the rule.
    """

    NAME = "mean"
    SUMMARY = "mean of stacked updates"
    PER_BYZANTINE, AT_LEAST, SOURCE = 0, 1, "no robust rule"
    WEIGHTED = True
    SENSITIVITY = None
    SUMS_ONLY = True

    def apply(self, rows: Rows, *, center: Optional[tf.Tensor] = None) -> tf.Tensor:
        from tfl_research.aggregators import rules

        del center
        return rules.mean(rows)
