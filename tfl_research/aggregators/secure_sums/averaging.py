"""The weighted means of `aggregators.averaging` over secure sums."""

from __future__ import annotations

import math
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from tfl_research.aggregators.averaging import CLIPPING, ZEROING
from tfl_research.aggregators.secure_sums import summation
from tfl_research.aggregators.secure_sums.formats import SumFormats


def mean(formats: SumFormats) -> tff.aggregators.WeightedAggregationFactory:
    """Builds the weighted mean from two secure sums; zero if no client counts.

    A client sends its update times its weight, rounded to steps s. With n clients of
    weights w, the error of a coordinate of the mean is at most n s / (2 Σ w), plus the
    rounding of float32. Weights that are whole numbers are exact. The measurements are
    `mean_value.clipped_clients` and `mean_weight.clipped_clients`.
    """
    return tff.aggregators.MeanFactory(
        summation.updates(formats), summation.weights(formats), no_nan_division=True
    )


def clipping(
    formats: SumFormats,
    inner: Optional[tff.aggregators.WeightedAggregationFactory] = None,
) -> tff.aggregators.WeightedAggregationFactory:
    """Builds `averaging.clipping` over secure sums.

    A client sends only whether its norm is above the quantile.
    """
    return tff.aggregators.clipping_factory(
        _quantile(formats, **CLIPPING),
        inner or mean(formats),
        clipped_count_sum_factory=summation.counts(formats),
    )


def zeroing(
    formats: SumFormats,
    inner: Optional[tff.aggregators.WeightedAggregationFactory] = None,
) -> tff.aggregators.WeightedAggregationFactory:
    """Builds `averaging.zeroing` over secure sums.

    A client sends only whether its norm is above the quantile.
    """
    return tff.aggregators.zeroing_factory(
        _quantile(formats, **ZEROING),
        inner or mean(formats),
        norm_order=math.inf,
        zeroed_count_sum_factory=summation.counts(formats),
    )


def robust(formats: SumFormats) -> tff.aggregators.WeightedAggregationFactory:
    """Builds zeroing, then clipping, over secure sums."""
    return zeroing(formats, clipping(formats))


def _quantile(
    formats: SumFormats,
    *,
    initial_estimate: float,
    target_quantile: float,
    learning_rate: float,
    multiplier: float = 1.0,
    increment: float = 0.0,
) -> tff.templates.EstimationProcess:
    """Builds `PrivateQuantileEstimationProcess.no_noise` over an exact secure sum.

    The sum is exact because the records (1/2 or -1/2, and 1) are multiples of a step.
    """
    query = tfp.NoPrivacyQuantileEstimatorQuery(
        initial_estimate=initial_estimate,
        target_quantile=target_quantile,
        learning_rate=learning_rate,
        geometric_update=True,
    )
    quantile = tff.aggregators.PrivateQuantileEstimationProcess(
        query, summation.bounded(formats)
    )
    if multiplier == 1.0 and increment == 0.0:
        return quantile

    @tff.tensorflow.computation(tf.float32.as_numpy_dtype)
    def scaled(estimate: tf.Tensor) -> Any:
        return multiplier * estimate + increment

    @tff.federated_computation(tff.FederatedType(tf.float32.as_numpy_dtype, tff.SERVER))
    def at_server(estimate: Any) -> Any:
        return tff.federated_map(scaled, estimate)

    return quantile.map(at_server)
