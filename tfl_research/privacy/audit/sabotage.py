"""Breaks mechanisms on purpose, to test that an audit notices."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.privacy.audit.canaries import SABOTAGES
from tfl_research.privacy.mechanisms.noised_sum import (
    NoisedSumFactory,
    bounded_record,
    np_float32,
)
from tfl_research.privacy.mechanisms.planned import PlannedAggregator

# A norm that no update reaches; the noise is scaled down by this factor.
_NO_CLIP = 2.0**40


@dataclasses.dataclass(frozen=True)
class _UncappedWeights(tff.aggregators.WeightedAggregationFactory):
    """Clips each value, then multiplies the value by an unbounded weight.

    Attributes:
      inner: sums and noises, but neither clips nor weighs.
      clip: largest l2 norm of the values.
      unit: the weight that multiplies a value by 1.
    """

    inner: tff.aggregators.WeightedAggregationFactory
    clip: float
    unit: float

    def create(
        self, value_type: tff.Type, weight_type: tff.Type
    ) -> tff.templates.AggregationProcess:
        inner = self.inner.create(value_type, weight_type)

        @tff.tensorflow.computation(value_type, np_float32())
        def weighed(value: Any, weight: tf.Tensor) -> Any:
            unit_weight = tf.constant(1.0)
            record, _ = bounded_record(
                tf.nest.flatten(value), unit_weight, tf.constant(self.clip, tf.float32)
            )
            scaled = [weight / self.unit * r for r in record]
            return tf.nest.pack_sequence_as(value, scaled), unit_weight

        @tff.federated_computation(
            inner.initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def next_sum(state: Any, value: Any, weight: Any) -> Any:
            pair = tff.federated_map(weighed, tff.federated_zip((value, weight)))
            return inner.next(state, pair[0], pair[1])

        return tff.templates.AggregationProcess(inner.initialize, next_sum)


def sabotaged(
    aggregator: tff.aggregators.WeightedAggregationFactory,
    sabotage: str,
    *,
    weight_unit: float = 1.0,
) -> tff.aggregators.WeightedAggregationFactory:
    """Returns the mechanism's aggregator without one of its parts.

    "noise_off" adds no noise. "clip_off" adds the noise of the declared clip, but does
    not clip. "weights_uncapped" clips and noises, but multiplies a client with n
    examples by n / weight_unit; its clients must be weighed by their examples. An
    adaptive clip stays at its initial value. "none" changes nothing.

    Args:
      aggregator: the aggregator of a mechanism that clips and noises a sum.
      sabotage: one of `SABOTAGES`.
      weight_unit: examples of a client with weight 1, for "weights_uncapped".

    Raises:
      ValueError: the sabotage is unknown, or the aggregator does not noise a sum.
    """
    if sabotage not in SABOTAGES:
        raise ValueError(
            f"sabotage must be one of {', '.join(SABOTAGES)}, got {sabotage!r}"
        )
    if sabotage == "none":
        return aggregator
    if isinstance(aggregator, PlannedAggregator):
        broken = sabotaged(aggregator.inner, sabotage, weight_unit=weight_unit)
        return dataclasses.replace(aggregator, inner=broken)
    if not isinstance(aggregator, NoisedSumFactory):
        raise ValueError(
            f"a {type(aggregator).__name__} cannot be sabotaged; expected the noised "
            "sum of a gaussian, adaptive, bounded-weight, tree or matrix mechanism"
        )
    if sabotage == "noise_off":
        adaptation = aggregator.adaptation
        if adaptation is not None:
            adaptation = dataclasses.replace(adaptation, count_stddev=0.0)
        return dataclasses.replace(
            aggregator, value_noise_multiplier=0.0, adaptation=adaptation
        )
    unclipped = dataclasses.replace(
        aggregator,
        initial_clip=aggregator.initial_clip * _NO_CLIP,
        value_noise_multiplier=aggregator.value_noise_multiplier / _NO_CLIP,
        adaptation=None,
    )
    if sabotage == "clip_off":
        return unclipped
    return _UncappedWeights(unclipped, aggregator.initial_clip, weight_unit)
