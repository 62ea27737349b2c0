"""Mechanisms with independent noise at the server, without TensorFlow."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Optional

from tfl_research import settings
from tfl_research.errors import SettingError
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.mechanisms.adaptive_split import value_noise_multiplier
from tfl_research.privacy.mechanisms.catalogue.run_context import (
    MechanismContext,
    RunShape,
)
from tfl_research.privacy.mechanisms.catalogue.specification import (
    MechanismSettings,
)

if TYPE_CHECKING:
    import tensorflow_federated as tff

    from tfl_research.privacy.plans.user_level import UserLevelPlan

_INDEPENDENT = ("poisson", "fixed", "shuffled", "full", "min_separation")


@dataclasses.dataclass(frozen=True)
class Gaussian(MechanismSettings):
    """A fixed clip and independent Gaussian noise in each round.

    The aggregator is `privacy.gaussian_aggregator`.

    Example:
      >>> from tfl_research.privacy import mechanisms
      >>> mechanism = mechanisms.Gaussian()
      >>> privacy = tfl.UserLevelPrivacy(mechanism, noise_multiplier=1)
      >>> cohorts = tfl.Cohorts("poisson", cohort_size=20)
      >>> tfl.Experiment("mnist", privacy=privacy, cohorts=cohorts).check()
    """

    NAME: ClassVar[str] = "gaussian"
    SUMMARY: ClassVar[str] = "fixed clip, independent Gaussian noise each round"
    PAPERS: ClassVar[tuple[str, ...]] = ("McMahan et al. 2018, arXiv 1710.06963",)
    SAMPLERS: ClassVar[tuple[str, ...]] = _INDEPENDENT
    WEIGHTINGS: ClassVar[tuple[str, ...]] = ("uniform",)

    def event(self, noise_multiplier: float, shape: RunShape) -> Event:
        return GaussianEvent.of(noise_multiplier, shape.amplification)

    def aggregator(
        self, plan: UserLevelPlan, context: MechanismContext
    ) -> tff.aggregators.WeightedAggregationFactory:
        from tfl_research.privacy.mechanisms import independent, noised_sum

        built = independent.gaussian_aggregator(
            l2_norm_clip=plan.l2_norm_clip,
            noise_multiplier=plan.noise_multiplier,
            expected_cohort_size=plan.expected_cohort_size,
            noise_seed=context.noise_seed,
        )
        return noised_sum.over_secure_sums(built, context.secure_sums)

    def declared_noise(
        self, plan: UserLevelPlan, measured: Mapping[str, float]
    ) -> dict[str, float]:
        """Returns the noise that a round declares, and the clip."""
        return {
            **super().declared_noise(plan, measured),
            "clip_norm": plan.l2_norm_clip,
        }


@dataclasses.dataclass(frozen=True)
class AdaptiveGaussian(MechanismSettings):
    """Gaussian noise, with a clip that follows a private quantile of the norms.

    The aggregator is `privacy.adaptive_gaussian_aggregator`.

    Example:
      >>> from tfl_research.privacy import mechanisms
      >>> mechanism = mechanisms.AdaptiveGaussian(target_unclipped_quantile=0.7)
      >>> privacy = tfl.UserLevelPrivacy(mechanism, noise_multiplier=1)
      >>> cohorts = tfl.Cohorts("poisson", cohort_size=20)
      >>> tfl.Experiment("mnist", privacy=privacy, cohorts=cohorts).check()
    """

    NAME: ClassVar[str] = "adaptive_gaussian"
    SUMMARY: ClassVar[str] = (
        "Gaussian noise, the clip follows a private quantile of the norms"
    )
    PAPERS: ClassVar[tuple[str, ...]] = ("Andrew et al. 2021, arXiv 1905.03871",)
    SAMPLERS: ClassVar[tuple[str, ...]] = _INDEPENDENT

    target_unclipped_quantile: float = settings.real(
        0.5, "Share of the updates that should not be clipped.", minimum=0, maximum=1
    )
    clip_learning_rate: float = settings.real(
        0.2, "Learning rate by which the clip adapts.", above=0
    )
    clipped_count_stddev: Optional[float] = settings.real(
        None,
        "Standard deviation of the noise on the count by which the clip adapts; a "
        "twentieth of the cohort size when not given.",
        above=0,
    )

    def count_stddev(self, expected_cohort_size: float) -> float:
        """Returns σ_b, the standard deviation of the noise on the clipped count."""
        if self.clipped_count_stddev is not None:
            return self.clipped_count_stddev
        return 0.05 * expected_cohort_size

    def event(self, noise_multiplier: float, shape: RunShape) -> Event:
        """Returns a Gaussian event that covers the update and the clipped count."""
        return GaussianEvent.of(noise_multiplier, shape.amplification)

    def check_noise(self, noise_multiplier: float, shape: RunShape) -> None:
        """Checks that the noise can be split between updates and clipped count.

        The updates get z_Δ = (z^-2 - (2σ_b)^-2)^(-1/2) (Andrew et al. 2021, arXiv
        1905.03871, theorem 1), which needs z < 2σ_b.

        Raises:
          SettingError: the noise multiplier is too large for σ_b.
        """
        size = shape.expected_cohort_size
        if noise_multiplier < 2 * self.count_stddev(size):
            return
        if self.clipped_count_stddev is not None:
            raise self.refused(
                "clipped_count_stddev",
                f"must be above half the noise multiplier, {noise_multiplier / 2:g}",
            )
        smallest = math.floor(10 * noise_multiplier) + 1
        raise SettingError(
            f"--mechanism=adaptive_gaussian: a noise multiplier of "
            f"{noise_multiplier:g} cannot be split for a cohort of {size:g}; "
            f"give --cohort_size={smallest} or more, or --clipped_count_stddev above "
            f"{noise_multiplier / 2:g}"
        )

    def aggregator(
        self, plan: UserLevelPlan, context: MechanismContext
    ) -> tff.aggregators.WeightedAggregationFactory:
        from tfl_research.privacy.mechanisms import independent, noised_sum

        built = independent.adaptive_gaussian_aggregator(
            initial_l2_norm_clip=plan.l2_norm_clip,
            target_unclipped_quantile=self.target_unclipped_quantile,
            clip_learning_rate=self.clip_learning_rate,
            noise_multiplier=plan.noise_multiplier,
            expected_cohort_size=plan.expected_cohort_size,
            noise_seed=context.noise_seed,
            clipped_count_stddev=self.count_stddev(plan.expected_cohort_size),
        )
        return noised_sum.over_secure_sums(built, context.secure_sums)

    def declared_noise(
        self, plan: UserLevelPlan, measured: Mapping[str, float]
    ) -> dict[str, float]:
        """Returns z_Δ x measured clip / denominator, and the clipped count's noise."""
        size = plan.expected_cohort_size
        stddev = self.count_stddev(size)
        noise = value_noise_multiplier(plan.noise_multiplier, stddev)
        return {
            "noise_stddev": noise * measured.get("clip_norm", math.nan) / size,
            "clipped_count_stddev": stddev if plan.noise_multiplier > 0 else 0.0,
        }

    def clip_words(self, l2_norm_clip: float) -> str:
        return (
            f"the l2 norm clip starts at {l2_norm_clip:g} and follows a quantile of "
            "the norms, whose noisy release is part of the effective noise multiplier"
        )


@dataclasses.dataclass(frozen=True)
class BoundedWeight(MechanismSettings):
    """Gaussian noise on a mean in which clients have capped weights.

    The aggregator is `privacy.bounded_weight_aggregator`.

    Example:
      >>> from tfl_research.privacy import mechanisms
      >>> mechanism = mechanisms.BoundedWeight(expected_client_weight=0.8)
      >>> experiment = tfl.Experiment(
      ...     "mnist",
      ...     privacy=tfl.UserLevelPrivacy(mechanism, noise_multiplier=1),
      ...     weighting=tfl.Weighting("capped", weight_cap=30),
      ... )
      >>> experiment.check()
    """

    NAME: ClassVar[str] = "bounded_weight"
    SUMMARY: ClassVar[str] = (
        "Gaussian noise, clients weighed by their capped example counts, over a "
        "denominator that is fixed or bounded below"
    )
    PAPERS: ClassVar[tuple[str, ...]] = (
        "McMahan et al. 2018, arXiv 1710.06963, estimators f_f and f_c",
    )
    SAMPLERS: ClassVar[tuple[str, ...]] = _INDEPENDENT
    WEIGHTINGS: ClassVar[tuple[str, ...]] = ("capped",)

    expected_client_weight: float = settings.real(
        1.0,
        "Mean of min(n/cap, 1) over clients. The denominator is this mean times the "
        "cohort size. The number must not come from private data.",
        above=0,
        maximum=1,
    )
    clipped_denominator: bool = settings.switch(
        False,
        "Divide by the cohort's total weight, but at least by the denominator of "
        "--expected_client_weight (estimator f_c), at twice the noise.",
    )

    def event(self, noise_multiplier: float, shape: RunShape) -> Event:
        return GaussianEvent.of(noise_multiplier, shape.amplification)

    def check_cohorts(self, sampler: str, weighting: str) -> None:
        """Refuses f_c for cohorts that are not Poisson, which its analysis needs."""
        super().check_cohorts(sampler, weighting)
        if self.clipped_denominator and sampler != "poisson":
            raise self.refused(
                "clipped_denominator",
                "is analysed for --sampler=poisson only; give --sampler=poisson",
            )

    def check_devices(self, devices: int) -> None:
        """Refuses f_c for cohorts that are not Poisson, which its analysis needs."""
        super().check_devices(devices)
        if self.clipped_denominator:
            raise self.refused(
                "clipped_denominator",
                "is analysed for Poisson cohorts, but --devices are selected as they "
                "are available; leave one of them out",
            )

    def aggregator(
        self, plan: UserLevelPlan, context: MechanismContext
    ) -> tff.aggregators.WeightedAggregationFactory:
        from tfl_research.privacy.mechanisms import independent, noised_sum

        built = independent.bounded_weight_aggregator(
            l2_norm_clip=plan.l2_norm_clip,
            noise_multiplier=plan.noise_multiplier,
            expected_cohort_weight=self.denominator(plan.expected_cohort_size),
            noise_seed=context.noise_seed,
            clipped_denominator=self.clipped_denominator,
        )
        return noised_sum.over_secure_sums(built, context.secure_sums)

    def denominator(self, expected_cohort_size: float) -> float:
        """Returns the mean of a cohort's sum of weights, or for f_c the least sum."""
        return expected_cohort_size * self.expected_client_weight

    def declared_noise(
        self, plan: UserLevelPlan, measured: Mapping[str, float]
    ) -> dict[str, float]:
        """Returns the noise that a round declares, which is twice as large for f_c."""
        del measured
        factor = 2 if self.clipped_denominator else 1
        unit = factor * plan.noise_multiplier * plan.l2_norm_clip
        return {
            "noise_stddev": unit / self.denominator(plan.expected_cohort_size),
            "clip_norm": plan.l2_norm_clip,
        }

    def denominator_words(self, expected_cohort_size: float) -> str:
        expected = self.denominator(expected_cohort_size)
        if self.clipped_denominator:
            return f"the sum is divided by the sum of weights, at least {expected:g}"
        return f"the sum is divided by the expected sum of weights, {expected:g}"
