"""Mechanisms with independent noise at the server, as TFF aggregators.

`UserLevelPlan.build` builds the aggregators of a run from its plan.
`correlated_mechanisms` has the mechanisms with correlated noise.
"""

from __future__ import annotations

import math
from typing import Optional

import tensorflow_federated as tff

from tfl_research.privacy.mechanisms.adaptive_split import value_noise_multiplier
from tfl_research.privacy.mechanisms.noised_sum import Adaptation, NoisedSumFactory


def check_settings(
    noise_multiplier: float,
    expected_cohort_size: Optional[float],
    l2_norm_clip: float,
) -> None:
    """Checks the ranges of noise, cohort size (if given) and clip.

    Raises:
      ValueError: a number is outside of its range.
    """
    if not (math.isfinite(noise_multiplier) and noise_multiplier >= 0):
        raise ValueError(f"noise_multiplier must be at least 0, got {noise_multiplier}")
    if expected_cohort_size is not None and not (
        math.isfinite(expected_cohort_size) and expected_cohort_size > 0
    ):
        raise ValueError(
            f"expected_cohort_size must be positive, got {expected_cohort_size}"
        )
    if not (math.isfinite(l2_norm_clip) and l2_norm_clip > 0):
        raise ValueError(f"the l2 norm clip must be positive, got {l2_norm_clip}")


def gaussian_aggregator(
    *,
    l2_norm_clip: float,
    noise_multiplier: float,
    expected_cohort_size: float,
    noise_seed: int,
    sum_factory: Optional[tff.aggregators.UnweightedAggregationFactory] = None,
) -> NoisedSumFactory:
    """Builds fixed clipping and Gaussian noise: DP-FedAvg.

    McMahan et al. 2018 (arXiv 1710.06963), Algorithm 1 with the estimator f_f. Each
    model delta is clipped to l2 norm S and weighed by w in [0, 1]. The sum gets noise
    N(0, (zS)^2) in each coordinate, and is divided by the fixed denominator qW, here
    the expected cohort size. The realised cohort size has no effect.

    Args:
      l2_norm_clip: S, positive.
      noise_multiplier: z, at least 0; 0 adds no noise.
      expected_cohort_size: the denominator, positive.
      noise_seed: secret; the noise is a function of this seed and of the round.
      sum_factory: sums the clipped deltas; plain summation by default.

    Raises:
      ValueError: an argument is outside of its range.
    """
    check_settings(noise_multiplier, expected_cohort_size, l2_norm_clip)
    return NoisedSumFactory(
        initial_clip=l2_norm_clip,
        value_noise_multiplier=noise_multiplier,
        denominator=expected_cohort_size,
        noise_seed=noise_seed,
        adaptation=None,
        sum_factory=sum_factory or tff.aggregators.SumFactory(),
    )


def bounded_weight_aggregator(
    *,
    l2_norm_clip: float,
    noise_multiplier: float,
    expected_cohort_weight: float,
    noise_seed: int,
    clipped_denominator: bool = False,
    sum_factory: Optional[tff.aggregators.UnweightedAggregationFactory] = None,
) -> NoisedSumFactory:
    """Builds a weighted mean with weights in [0, 1], fixed clip and Gaussian noise.

    McMahan et al. 2018 (arXiv 1710.06963), section 3. Weights are capped at 1. The
    estimator f_f divides the weighted sum by the fixed qW: sensitivity S/(qW). The
    estimator f_c divides by max(qW_min, Σ w): with sum v, weights' sum a and
    D = max(qW_min, a), a further client of weight w moves v/D by at most
    w S/D' + ‖v‖ (1/D - 1/D'), ‖v‖ <= a S <= D S, and so by at most
    2 w S/D' <= 2 S/(qW_min) (Lemma 1): f_c gets twice the noise of f_f.

    Args:
      l2_norm_clip: S, positive.
      noise_multiplier: z, at least 0; 0 adds no noise.
      expected_cohort_weight: qW, the mean of a cohort's sum of weights, or for f_c
        qW_min, the least sum; positive, and chosen without looking at the data.
      noise_seed: secret; the noise is a function of this seed and of the round.
      clipped_denominator: whether the estimator is f_c instead of f_f.
      sum_factory: sums the clipped deltas; plain summation by default.

    Raises:
      ValueError: an argument is outside of its range.
    """
    check_settings(noise_multiplier, None, l2_norm_clip)
    if not (math.isfinite(expected_cohort_weight) and expected_cohort_weight > 0):
        raise ValueError(
            f"expected_cohort_weight must be positive, got {expected_cohort_weight}"
        )
    return NoisedSumFactory(
        initial_clip=l2_norm_clip,
        value_noise_multiplier=noise_multiplier,
        denominator=expected_cohort_weight,
        noise_seed=noise_seed,
        adaptation=None,
        sum_factory=sum_factory or tff.aggregators.SumFactory(),
        clipped_denominator=clipped_denominator,
    )


def adaptive_gaussian_aggregator(
    *,
    initial_l2_norm_clip: float,
    target_unclipped_quantile: float,
    clip_learning_rate: float,
    noise_multiplier: float,
    expected_cohort_size: float,
    noise_seed: int,
    clipped_count_stddev: Optional[float] = None,
    sum_factory: Optional[tff.aggregators.UnweightedAggregationFactory] = None,
) -> NoisedSumFactory:
    """Builds adaptive clipping and Gaussian noise, which also covers the quantile.

    Andrew et al. 2021 (arXiv 1905.03871), Algorithm 1 with the geometric update
    C <- C exp(-eta_C (b - gamma)). The number of unclipped clients is released with
    noise sigma_b; the deltas get the noise multiplier z_Delta that makes both
    together cost as one Gaussian of `noise_multiplier` (Theorem 1).

    Args:
      initial_l2_norm_clip: C of the first round, positive.
      target_unclipped_quantile: gamma in [0, 1].
      clip_learning_rate: eta_C, at least 0.
      noise_multiplier: z of both releases together, at least 0.
      expected_cohort_size: the denominator, positive.
      noise_seed: secret; the noise is a function of this seed and of the round.
      clipped_count_stddev: sigma_b; 0.05 x expected cohort size by default.
      sum_factory: sums the clipped deltas; plain summation by default.

    Raises:
      ValueError: an argument is outside of its range, or z is at least 2 sigma_b.
    """
    check_settings(noise_multiplier, expected_cohort_size, initial_l2_norm_clip)
    if not 0 <= target_unclipped_quantile <= 1:
        raise ValueError(
            "target_unclipped_quantile must be in [0, 1], got "
            f"{target_unclipped_quantile}"
        )
    if clip_learning_rate < 0:
        raise ValueError(
            f"clip_learning_rate must be at least 0, got {clip_learning_rate}"
        )
    if clipped_count_stddev is None:
        clipped_count_stddev = 0.05 * expected_cohort_size
    if noise_multiplier == 0:
        clipped_count_stddev = 0.0
    return NoisedSumFactory(
        initial_clip=initial_l2_norm_clip,
        value_noise_multiplier=value_noise_multiplier(
            noise_multiplier, clipped_count_stddev
        ),
        denominator=expected_cohort_size,
        noise_seed=noise_seed,
        adaptation=Adaptation(
            target_unclipped_quantile, clip_learning_rate, clipped_count_stddev
        ),
        sum_factory=sum_factory or tff.aggregators.SumFactory(),
    )
