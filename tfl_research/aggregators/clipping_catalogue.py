"""Specifications of the robust rules that clip updates."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Optional

from tfl_research import settings
from tfl_research.aggregators.rule_specification import SKIP, RuleSettings
from tfl_research.aggregators.specification import AggregatorContext, register
from tfl_research.errors import SettingError

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_federated as tff

    from tfl_research.aggregators.rules import Rows
    from tfl_research.aggregators.stacking import StackingFactory

_RADIUS = (
    "l2 norm to which norm_clipping clips updates, and centered_clipping the "
    "differences of updates from its centre."
)


@register
@dataclasses.dataclass(frozen=True)
class CenteredClipping(RuleSettings):
    """Moves a centre, which is kept between rounds, by clipped differences from it.

    Example:
      >>> aggregator = tfl.aggregators.CenteredClipping(clip_radius=0.5)
      >>> tfl.Experiment("heart", aggregator=aggregator).check()
    """

    NAME = "centered_clipping"
    SUMMARY = "clipping around a centre that is kept between rounds"
    PAPERS = ("Karimireddy et al. 2021, arXiv 2012.10333",)
    PER_BYZANTINE, AT_LEAST, SOURCE = 10, 0, "arXiv 2012.10333: δ <= 0.1"
    KEEPS_CENTER = True
    SENSITIVITY = (
        "updates are clipped around a centre and divided by the number of clients "
        "that came, which the mechanism's clip and denominator do not describe"
    )

    clip_radius: Optional[float] = settings.real(
        None,
        _RADIUS,
        above=0,
    )
    clip_iterations: int = settings.integer(
        1, "Iterations of centered_clipping.", minimum=1
    )
    clip_momentum: float = settings.real(
        0.0,
        "Momentum of the centre that centered_clipping keeps between rounds. 0, as in "
        "the paper, keeps the last result.",
        minimum=0,
        below=1,
    )

    def check(self) -> None:
        super().check()
        _check_radius(self, self.clip_radius)

    def apply(self, rows: Rows, *, center: Optional[tf.Tensor] = None) -> tf.Tensor:
        from tfl_research.aggregators import rules

        return rules.centered_clipping(
            rows,
            center=center,
            radius=self.clip_radius or 0.0,
            iterations=self.clip_iterations,
        )

    def next_center(self, center: Any, result: Any) -> Any:
        """c <- β c + (1 - β) result; see `RuleSettings.next_center`."""
        return self.clip_momentum * center + (1 - self.clip_momentum) * result


@register
@dataclasses.dataclass(frozen=True)
class NormClipping(RuleSettings):
    """The mean of updates that are clipped to an l2 norm.

    Clients clip their own updates, without a stack, unless a setting needs the stack.

    Example:
      >>> aggregator = tfl.aggregators.NormClipping(clip_radius=0.5)
      >>> tfl.Experiment("heart", aggregator=aggregator).check()
    """

    NAME = "norm_clipping"
    SUMMARY = "mean of updates clipped to a norm"
    PAPERS = ("Sun et al. 2019, arXiv 1911.07963",)
    PER_BYZANTINE, AT_LEAST, SOURCE = 0, 1, "bounds each row's part"
    WEIGHTED = True
    SENSITIVITY = None
    SUMS_ONLY = True

    clip_radius: Optional[float] = settings.real(
        None,
        _RADIUS,
        above=0,
    )

    def check(self) -> None:
        super().check()
        _check_radius(self, self.clip_radius)

    @property
    def stacked(self) -> bool:
        return bool(
            self.byzantine is not None
            or self.on_breakdown is not None
            or self.neighbour_mixing
            or self.bucket_size > 1
        )

    def apply(self, rows: Rows, *, center: Optional[tf.Tensor] = None) -> tf.Tensor:
        from tfl_research.aggregators import rules

        return rules.norm_clipping(rows, radius=self.clip_radius or 0.0)

    def build(self, context: AggregatorContext) -> tff.aggregators.AggregationFactory:
        from tfl_research.aggregators.norm_clipping import NormClippingFactory
        from tfl_research.aggregators.secure_sums import averaging

        if self.stacked:
            return self.build_stacked(context)
        if context.secure_sums is None:
            return NormClippingFactory(self.clip_radius or 0.0)
        return NormClippingFactory(
            self.clip_radius or 0.0, averaging.mean(context.secure_sums)
        )

    def before_noise(
        self, mechanism: tff.aggregators.WeightedAggregationFactory
    ) -> tff.aggregators.WeightedAggregationFactory:
        from tfl_research.aggregators.norm_clipping import NormClippingFactory

        return NormClippingFactory(self.clip_radius or 0.0, mechanism)

    def build_stacked(self, context: AggregatorContext) -> StackingFactory:
        """The rule over stacked updates; it skips rounds without clients."""
        if self.stacked:
            return super().build_stacked(context)
        return dataclasses.replace(self, on_breakdown=SKIP).build_stacked(context)


def _check_radius(rule: RuleSettings, radius: Optional[float]) -> None:
    if radius is None:
        raise SettingError(f"--aggregator={rule.NAME}: needs --clip_radius too")
