"""Mechanisms whose noise is correlated over rounds (DP-FTRL), as TFF aggregators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import tensorflow_federated as tff

from tfl_research.privacy.mechanisms.independent import check_settings
from tfl_research.privacy.mechanisms.noise import factorization
from tfl_research.privacy.mechanisms.noise.matrix_noise import MatrixNoise
from tfl_research.privacy.mechanisms.noise.tree_noise import TreeNoise
from tfl_research.privacy.mechanisms.noised_sum import NoisedSumFactory


def tree_aggregator(
    *,
    l2_norm_clip: float,
    noise_multiplier: float,
    expected_cohort_size: float,
    noise_seed: int,
    restart_every: int,
    efficient: bool = True,
    sum_factory: Optional[tff.aggregators.UnweightedAggregationFactory] = None,
) -> NoisedSumFactory:
    """Builds DP-FTRL with trees: a round releases the increase of a noisy prefix sum.

    Kairouz et al. 2021 (arXiv 2103.00039). Every server optimizer can be used, since
    the sum of the released rounds is the noisy prefix sum. A tree's last prefix stays
    in the sum when the next tree begins. That prefix has the least noise if
    `restart_every` is a power of two.

    Args:
      l2_norm_clip: S, positive.
      noise_multiplier: z; a node's noise is N(0, (zS)^2); 0 adds no noise.
      expected_cohort_size: the denominator, positive.
      noise_seed: secret; a node's noise is a function of this seed and of the node.
      restart_every: rounds of a tree; later rounds begin the next tree. Give the
        planned rounds for a single tree.
      efficient: whether prefixes are Honaker's estimates, which have less noise at
        equal privacy; the state holds log2(restart_every) model sizes.
      sum_factory: sums the clipped deltas; plain summation by default.

    Raises:
      ValueError: an argument is outside of its range.
    """
    check_settings(noise_multiplier, expected_cohort_size, l2_norm_clip)
    if restart_every < 1:
        raise ValueError(f"restart_every must be at least 1, got {restart_every}")
    return NoisedSumFactory(
        initial_clip=l2_norm_clip,
        value_noise_multiplier=noise_multiplier,
        denominator=expected_cohort_size,
        noise_seed=noise_seed,
        adaptation=None,
        sum_factory=sum_factory or tff.aggregators.SumFactory(),
        noise_process=TreeNoise(restart_every, efficient),
    )


def banded_matrix_aggregator(
    *,
    l2_norm_clip: float,
    noise_multiplier: float,
    expected_cohort_size: float,
    noise_seed: int,
    rounds: int,
    bands: int,
    momentum: float = 0.0,
    learning_rates: Optional[Sequence[float]] = None,
    cache: bool = True,
    sum_factory: Optional[tff.aggregators.UnweightedAggregationFactory] = None,
) -> NoisedSumFactory:
    """Builds DP-FTRL with noise that is correlated by an optimised banded matrix.

    Choquette-Choo et al. 2023 (arXiv 2306.08153). The state holds the noise of the
    last bands - 1 rounds, so bands - 1 model sizes.

    Args:
      l2_norm_clip: S, positive.
      noise_multiplier: z; the matrix' independent noise is N(0, (zS)^2); 0 adds no
        noise.
      expected_cohort_size: the denominator, positive.
      noise_seed: secret; the noise is a function of this seed and of the round.
      rounds: planned rounds, the matrix' size; later rounds begin the matrix again.
      bands: diagonals; 1 is independent noise. The sampler must keep a client's rounds
        at least this many rounds apart, see `MatrixEvent`.
      momentum: the momentum of the server optimizer, see
        `factorization.workload_matrix`.
      learning_rates: the learning rates of the server optimizer, see
        `factorization.workload_matrix`.
      cache: see `factorization.banded_factor`.
      sum_factory: sums the clipped deltas; plain summation by default.

    Raises:
      ValueError: an argument is outside of its range.
    """
    check_settings(noise_multiplier, expected_cohort_size, l2_norm_clip)
    factor = factorization.banded_factor(
        rounds,
        bands,
        momentum=momentum,
        learning_rates=learning_rates,
        cache=cache,
    )
    return NoisedSumFactory(
        initial_clip=l2_norm_clip,
        value_noise_multiplier=noise_multiplier,
        denominator=expected_cohort_size,
        noise_seed=noise_seed,
        adaptation=None,
        sum_factory=sum_factory or tff.aggregators.SumFactory(),
        noise_process=MatrixNoise(factor.rows),
    )
