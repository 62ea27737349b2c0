"""Clipping to a fixed l2 norm at the clients, before another aggregation."""

from __future__ import annotations

import dataclasses
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.aggregators.averaging import mean
from tfl_research.aggregators.contract import UpdateAggregator, declarations


@dataclasses.dataclass(frozen=True)
class NormClippingFactory(UpdateAggregator, tff.aggregators.WeightedAggregationFactory):
    """Each client clips its update to an l2 norm: x min(1, radius / ||x||).

    Sun et al. 2019 (arXiv 1911.07963), "norm thresholding of updates". Before a mean,
    the result equals `rules.norm_clipping`, but without a stack: memory does not grow
    with the cohort, and the server needs sums only. Unlike TFF's `clipping_factory`,
    this factory sends nothing beside the update to the server. So it may come before a
    private sum.

    `create(value_type, weight_type)` gives the process of `inner`.

    Attributes:
      radius: the largest norm, positive and finite.
      inner: aggregates the clipped updates; the weighted mean by default.

    Raises:
      ValueError: the radius is out of range.
    """

    radius: float
    inner: tff.aggregators.WeightedAggregationFactory = dataclasses.field(
        default_factory=mean
    )

    def __post_init__(self) -> None:
        if not 0 < self.radius < float("inf"):
            raise ValueError(f"radius must be positive and finite, got {self.radius}")

    @property
    def client_members(self) -> tuple[str, ...]:
        """The members of `inner`."""
        return declarations(self.inner).client_members

    @property
    def screens_updates(self) -> bool:
        """The value of `inner`; clipping does not change non-finite updates."""
        return declarations(self.inner).screens_updates

    @property
    def plan(self) -> Any:
        """The privacy plan of `inner`."""
        return declarations(self.inner).plan

    def message_type(self, update_type: tff.Type) -> Optional[tff.Type]:
        """Returns the type of a client's message to the inner factory."""
        return declarations(self.inner).message_type(update_type)

    def create(
        self, value_type: tff.Type, weight_type: tff.Type
    ) -> tff.templates.AggregationProcess:
        """Creates the process that clips updates of this type before `inner`."""
        process = self.inner.create(value_type, weight_type)

        @tff.tensorflow.computation(value_type)
        def clip(value: Any) -> Any:
            # The squares of large float32 numbers would overflow.
            squares = [
                tf.reduce_sum(tf.square(tf.cast(part, tf.float64)))
                for part in tf.nest.flatten(value)
            ]
            norm = tf.sqrt(tf.add_n(squares))
            shortening = tf.math.divide_no_nan(
                tf.constant(self.radius, tf.float64), norm
            )
            # For a norm of 0 the factor is 0, and zeros stay zeros.
            factor = tf.minimum(shortening, 1.0)
            return tf.nest.map_structure(
                lambda part: part * tf.cast(factor, part.dtype), value
            )

        @tff.federated_computation(
            process.initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def next_clipped(state: Any, value: Any, weight: Any) -> Any:
            return process.next(state, tff.federated_map(clip, value), weight)

        return tff.templates.AggregationProcess(process.initialize, next_clipped)
