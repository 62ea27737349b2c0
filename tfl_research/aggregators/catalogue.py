"""Specifications of aggregators without a stack of updates, and the trusted root."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Optional

from tfl_research import settings
from tfl_research.aggregators.rule_specification import SKIP, MeanRule
from tfl_research.aggregators.specification import (
    ROOT_ROLE,
    AggregatorContext,
    AggregatorSettings,
    register,
)
from tfl_research.errors import SettingError

if TYPE_CHECKING:
    import tensorflow_federated as tff

    from tfl_research.aggregators.stacking import StackingFactory
    from tfl_research.aggregators.trusted_root import TrustedRootFactory

# ν of the repeated median under secure sums, which round ν β. A distance below ν counts
# as ν.
_SECURE_SMOOTHING = 1e-3
_QUANTILES = "Andrew et al. 2021, arXiv 1905.03871"


@register
@dataclasses.dataclass(frozen=True)
class Mean(AggregatorSettings):
    """The weighted mean of the updates.

    Example:
      >>> tfl.Experiment("heart", aggregator=tfl.aggregators.Mean()).check()
    """

    NAME = "mean"
    SUMMARY = "weighted mean"
    PAPERS = ("McMahan et al. 2017, arXiv 1602.05629",)
    SENSITIVITY = None
    SUMS_ONLY = True

    def build(self, context: AggregatorContext) -> tff.aggregators.AggregationFactory:
        from tfl_research.aggregators import averaging
        from tfl_research.aggregators.secure_sums import averaging as secure

        formats = context.secure_sums
        return averaging.mean() if formats is None else secure.mean(formats)

    def build_stacked(self, context: AggregatorContext) -> StackingFactory:
        return MeanRule(on_breakdown=SKIP).build_stacked(context)


@register
@dataclasses.dataclass(frozen=True)
class Robust(AggregatorSettings):
    """TFF's adaptive zeroing, then its adaptive clipping.

    Example:
      >>> tfl.Experiment("heart", aggregator=tfl.aggregators.Robust()).check()
    """

    NAME = "robust"
    SUMMARY = "TFF's adaptive zeroing and clipping"
    PAPERS = (_QUANTILES,)
    SENSITIVITY = (
        "its zeroing follows exact norms of the clients, which no noise covers"
    )
    SUMS_ONLY = True

    def build(self, context: AggregatorContext) -> tff.aggregators.AggregationFactory:
        from tfl_research.aggregators import averaging
        from tfl_research.aggregators.secure_sums import averaging as secure

        formats = context.secure_sums
        return averaging.robust() if formats is None else secure.robust(formats)


@register
@dataclasses.dataclass(frozen=True)
class Zeroing(AggregatorSettings):
    """Leaves out updates far above a quantile of the cohort's norms.

    Example:
      >>> tfl.Experiment("heart", aggregator=tfl.aggregators.Zeroing()).check()
    """

    NAME = "zeroing"
    SUMMARY = "TFF's adaptive zeroing"
    PAPERS = (_QUANTILES,)
    SENSITIVITY = "it follows exact norms of the clients, which no noise covers"
    SUMS_ONLY = True

    def build(self, context: AggregatorContext) -> tff.aggregators.AggregationFactory:
        from tfl_research.aggregators import averaging
        from tfl_research.aggregators.secure_sums import averaging as secure

        formats = context.secure_sums
        return averaging.zeroing() if formats is None else secure.zeroing(formats)


@register
@dataclasses.dataclass(frozen=True)
class Clipping(AggregatorSettings):
    """Clips updates to a quantile of the cohort's norms.

    Example:
      >>> tfl.Experiment("heart", aggregator=tfl.aggregators.Clipping()).check()
    """

    NAME = "clipping"
    SUMMARY = "TFF's adaptive clipping"
    PAPERS = (_QUANTILES,)
    SENSITIVITY = (
        "its norm follows an exact quantile of the clients' norms, which no noise "
        "covers; use the mechanism's adaptive clipping"
    )
    SUMS_ONLY = True

    def build(self, context: AggregatorContext) -> tff.aggregators.AggregationFactory:
        from tfl_research.aggregators import averaging
        from tfl_research.aggregators.secure_sums import averaging as secure

        formats = context.secure_sums
        return averaging.clipping() if formats is None else secure.clipping(formats)


@register
@dataclasses.dataclass(frozen=True)
class Compression(AggregatorSettings):
    """The mean of updates that are quantised to 8 bits where tensors are large.

    Example:
      >>> tfl.Experiment("heart", aggregator=tfl.aggregators.Compression()).check()
    """

    NAME = "compression"
    SUMMARY = "TFF's 8-bit quantisation of large tensors"
    SENSITIVITY = "quantising a clipped update can lengthen it beyond the clip"

    def build(self, context: AggregatorContext) -> tff.aggregators.AggregationFactory:
        from tfl_research.aggregators import averaging

        return averaging.compression()


@register
@dataclasses.dataclass(frozen=True)
class Secure(AggregatorSettings):
    """Zeroing, clipping and a mean of secure sums.

    Example:
      >>> tfl.Experiment("heart", aggregator=tfl.aggregators.Secure()).check()
    """

    NAME = "secure"
    SUMMARY = "robust over secure sums"
    PAPERS = ("Bonawitz et al. 2017", _QUANTILES)
    SENSITIVITY = "its zeroing and clipping follow exact norms, which no noise covers"
    SUMS_ONLY = True

    def build(self, context: AggregatorContext) -> tff.aggregators.AggregationFactory:
        from tfl_research.aggregators import averaging

        return averaging.secure()


@register
@dataclasses.dataclass(frozen=True)
class RepeatedGeometricMedian(AggregatorSettings):
    """The geometric median by repeated means, which need only sums.

    Example:
      >>> aggregator = tfl.aggregators.RepeatedGeometricMedian()
      >>> tfl.Experiment("heart", aggregator=aggregator).check()
    """

    NAME = "repeated_geometric_median"
    SUMMARY = "geometric median computed from sums only, one step a round"
    PAPERS = ("Pillutla et al. 2022, arXiv 1912.13445",)
    SENSITIVITY = (
        "a client's part is divided by its distance from the last median, and by a sum "
        "that depends on the other clients, so that no client's part is bounded by C/n"
    )
    SUMS_ONLY = True

    weiszfeld_steps: int = settings.integer(
        1,
        "Steps of repeated_geometric_median in a round. More than 1 step needs "
        "--runtime=tff.",
        minimum=1,
    )

    @property
    def has_map_reduce_form(self) -> bool:
        return self.weiszfeld_steps == 1

    def check_runtime(self, runtime: str) -> None:
        if not self.has_map_reduce_form and runtime != "tff":
            raise self.refused(
                "weiszfeld_steps",
                "each step is an aggregation of its own, which only --runtime=tff "
                "executes; give --runtime=tff, or --weiszfeld_steps=1",
            )

    def build(self, context: AggregatorContext) -> tff.aggregators.AggregationFactory:
        from tfl_research.aggregators.repeated_mean import RepeatedMeanFactory
        from tfl_research.aggregators.secure_sums import summation

        if context.secure_sums is None:
            return RepeatedMeanFactory(self.weiszfeld_steps)
        sums = summation.updates(context.secure_sums)
        return RepeatedMeanFactory(self.weiszfeld_steps, _SECURE_SMOOTHING, sums)


@register
@dataclasses.dataclass(frozen=True)
class TrustedRoot(AggregatorSettings):
    """FLTrust: updates are weighed by their cosine with the server's own update.

    Example:
      >>> aggregator = tfl.aggregators.TrustedRoot(root_examples=100)
      >>> tfl.Experiment("mnist", aggregator=aggregator).check()
    """

    NAME = "trusted_root"
    SUMMARY = "FLTrust, which weighs updates by their cosine with the server's own"
    PAPERS = ("Cao et al. 2021, arXiv 2012.13995",)
    SENSITIVITY = (
        "rows are divided by a sum of trust that depends on the other clients, so that "
        "one client's part is not bounded by C/n"
    )
    WEIGHTED = False
    NEEDS_ROOT = True

    root_examples: Optional[int] = settings.integer(
        None,
        "Number of examples that the server trains on under trusted_root. --seed "
        "draws them from all clients' examples before any attack. The paper has 100.",
        minimum=1,
    )

    def check(self) -> None:
        if self.root_examples is None:
            raise SettingError(f"--aggregator={self.NAME}: needs --root_examples too")

    def build(self, context: AggregatorContext) -> tff.aggregators.AggregationFactory:
        return self.build_stacked(context)

    def build_stacked(self, context: AggregatorContext) -> TrustedRootFactory:
        from tfl_research.aggregators.trusted_root import TrustedRootFactory

        return TrustedRootFactory(context.maximum_cohort_size, ROOT_ROLE)
