"""The geometric median by repeated means, which need only sums over clients."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.aggregators.contract import UpdateAggregator
from tfl_research.aggregators.stack import Layout


@dataclasses.dataclass(frozen=True)
class RepeatedMeanFactory(UpdateAggregator, tff.aggregators.WeightedAggregationFactory):
    """Robust federated aggregation (RFA): smoothed Weiszfeld steps of two sums each.

    Pillutla et al. 2022 (arXiv 1912.13445), Algorithm 2. In a step the server sends its
    estimate v. Client i computes β_i = α_i / max(ν, ||v - x_i||) and sends
    β_i (x_i - v) and ν β_i. The server moves v by the quotient of the two sums, times
    ν. The server needs sums only, so that this works under secure aggregation, and the
    server's memory does not grow with the cohort. With weights of at most 1, every
    number that a client sends is within [-1, 1], which gives a secure sum its bounds.
    Then ν should not be far below the distances of the updates, since the secure sum
    also rounds ν β_i.

    The steps of a round start from the estimate of the round before (from zero in the
    first round), not from the mean. So no client of this round can choose the point
    from which a step starts. A step moves the estimate by at most the weighted mean of
    unit vectors towards the clients, scaled by their harmonic mean distance.

    With `steps=1`, the default, a round is one aggregation. It has a map-reduce form,
    so every runtime executes it, and the estimate follows the geometric median over
    rounds. With more steps, a round runs the paper's algorithm. Each step then needs
    its own broadcast and aggregation, which a map-reduce form does not have. So
    `runtime.in_process` gives the process to TFF's runtime.

    A client whose update or weight is not finite, or whose weight is negative, sends
    zeros and counts as excluded. Under secure aggregation the server cannot check this:
    a hostile client can send any β x within the bounds of the sum.

    `create(value_type, weight_type)` gives a process like the process of
    `StackingFactory`, with measurements `excluded` (float32 scalar, clients) and
    `step_norm` (float32 scalar, l2 norm of the last step's move).

    Attributes:
      steps: Weiszfeld steps in a round.
      smoothing: ν, positive, in the updates' unit.
      sum_factory: sums a structure of the weighted updates, the weights and counts;
        plain summation by default.

    Raises:
      ValueError: steps below 1, or smoothing that is not positive.
    """

    steps: int = 1
    smoothing: float = 1e-6
    sum_factory: Optional[tff.aggregators.UnweightedAggregationFactory] = None

    # This factory itself counts non-finite updates.
    screens_updates = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if not self.smoothing > 0:
            raise ValueError(f"smoothing must be positive, got {self.smoothing}")

    def create(
        self, value_type: tff.Type, weight_type: tff.Type
    ) -> tff.templates.AggregationProcess:
        """Creates the aggregation of `value_type`, a structure of float32 tensors.

        Raises:
          ValueError: the values are not float32, or a shape is not static.
        """
        layout = Layout.of(value_type)
        vector_type = tff.TensorType(tf.float32.as_numpy_dtype, [layout.size])

        @tff.tensorflow.computation(value_type, weight_type, vector_type)
        def pull(value: Any, weight: tf.Tensor, estimate: tf.Tensor) -> Any:
            vector = layout.flatten(value)
            weight = tf.cast(weight, tf.float32)
            honest = tf.reduce_all(tf.math.is_finite(vector))
            honest &= tf.math.is_finite(weight) & (weight >= 0)
            vector = tf.where(honest, vector, estimate)
            weight = tf.where(honest, weight, 0.0)
            apart = tf.cast(vector, tf.float64) - tf.cast(estimate, tf.float64)
            distance = tf.maximum(tf.norm(apart), self.smoothing)
            beta = tf.cast(weight, tf.float64) / distance
            return collections.OrderedDict(
                # Sending differences keeps accuracy when clients are close together.
                weighted=tf.cast(beta * apart, tf.float32),
                weight=tf.cast(beta * self.smoothing, tf.float32),
                excluded=tf.cast(tf.logical_not(honest), tf.float32),
            )

        sums = self.sum_factory or tff.aggregators.SumFactory()
        inner = sums.create(pull.type_signature.result)
        sum_type = inner.next.type_signature.result.result.member

        @tff.tensorflow.computation(vector_type, sum_type)
        def move(estimate: tf.Tensor, total: Any) -> Any:
            step = tf.math.divide_no_nan(total["weighted"], total["weight"])
            step *= self.smoothing
            step = tf.where(tf.reduce_all(tf.math.is_finite(step)), step, 0.0)
            return estimate + step, total["excluded"], tf.norm(step)

        @tff.tensorflow.computation
        def initial_estimate() -> tf.Tensor:
            return tf.zeros([layout.size], tf.float32)

        # Secure sums measure how many clients were clipped.
        sums_type = inner.next.type_signature.result.measurements.member

        @tff.tensorflow.computation(vector_type, tf.float32, tf.float32, sums_type)
        def release(
            estimate: tf.Tensor, excluded: Any, step_norm: Any, of_sums: Any
        ) -> Any:
            measurements = collections.OrderedDict(
                excluded=excluded, step_norm=step_norm
            )
            if isinstance(of_sums, Mapping):
                measurements.update(of_sums)
            return layout.unflatten(estimate), measurements

        @tff.federated_computation
        def initialize() -> Any:
            estimate = tff.federated_eval(initial_estimate, tff.SERVER)
            return tff.federated_zip((estimate, inner.initialize()))

        @tff.federated_computation(
            initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def next_median(state: Any, value: Any, weight: Any) -> Any:
            estimate, inner_state = state[0], state[1]
            for _ in range(self.steps):
                sent = tff.federated_broadcast(estimate)
                pulls = tff.federated_map(
                    pull, tff.federated_zip((value, weight, sent))
                )
                summed = inner.next(inner_state, pulls)
                inner_state = summed.state
                moved = tff.federated_map(
                    move, tff.federated_zip((estimate, summed.result))
                )
                estimate = moved[0]
            released = tff.federated_map(
                release,
                tff.federated_zip((moved[0], moved[1], moved[2], summed.measurements)),
            )
            return tff.templates.MeasuredProcessOutput(
                tff.federated_zip((estimate, inner_state)), released[0], released[1]
            )

        return tff.templates.AggregationProcess(initialize, next_median)
