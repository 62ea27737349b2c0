"""A TFF aggregation factory of a clipped, noised sum whose noise has a seed."""

from __future__ import annotations

import collections
import dataclasses
import math
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from tfl_research.aggregators import SumFormats
from tfl_research.aggregators.contract import UpdateAggregator
from tfl_research.aggregators.secure_sums import summation
from tfl_research.clients.vectors import all_finite
from tfl_research.privacy.mechanisms.noise.noise_processes import (
    IndependentNoise,
    NoiseProcess,
    noise,
)
from tfl_research.runtime.graphs.constants import argument

_INDEPENDENT = IndependentNoise()


@dataclasses.dataclass(frozen=True)
class Adaptation:
    """The adaptation of the clip to a quantile of the deltas' norms.

    Attributes:
      quantile: gamma, the share of clients that should stay unclipped.
      learning_rate: eta_C of the geometric update.
      count_stddev: sigma_b, standard deviation of the noise on the number of unclipped
        clients.
    """

    quantile: float
    learning_rate: float
    count_stddev: float


def seed_tensor(noise_seed: int) -> tf.Tensor:
    """Returns a seed's low 128 bits as int64 `[2]`, which stateless generators take."""
    words = [(noise_seed >> shift) & (2**64 - 1) for shift in (0, 64)]
    signed = [word - 2**64 if word >= 2**63 else word for word in words]
    return tf.constant(signed, tf.int64)


def bounded_weight(weight: tf.Tensor) -> tf.Tensor:
    """Bounds a weight to [0, 1]: a negative weight or NaN becomes 0."""
    return tf.where(weight > 0, tf.minimum(weight, 1.0), tf.zeros_like(weight))


def bounded_record(
    value: list[tf.Tensor], weight: tf.Tensor, clip: tf.Tensor
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Returns a client's contribution to the sum, and the l2 norm of the value.

    The contribution's norm is at most `clip` for any value and weight. A value that is
    not finite contributes zero and has an infinite norm. `bounded_weight` bounds the
    weight. The norm is computed on values scaled by their largest magnitude, since
    squares of large float32 numbers overflow.
    """
    finite = all_finite(value)
    value = [tf.where(finite, v, tf.zeros_like(v)) for v in value]
    largest = tf.reduce_max([tf.reduce_max(tf.abs(v)) for v in value if _holds(v)])
    unit = [tf.math.divide_no_nan(v, largest) for v in value]
    norm = largest * tf.linalg.global_norm(unit)
    # The query clips. It gets a unit vector, so its squares cannot overflow.
    direction = [tf.math.divide_no_nan(u, tf.linalg.global_norm(unit)) for u in unit]
    query = tfp.GaussianSumQuery(l2_norm_clip=1.0, stddev=0.0)
    direction = query.preprocess_record(tf.constant(1.0), direction)
    length = tf.minimum(norm, clip)
    bounded = bounded_weight(weight)
    record = [bounded * length * d for d in direction]
    infinite = tf.constant(math.inf, norm.dtype)
    return record, tf.where(finite, norm, infinite)


def _holds(tensor: tf.Tensor) -> bool:
    return tensor.shape.num_elements() != 0


@dataclasses.dataclass(frozen=True)
class NoisedSumFactory(UpdateAggregator, tff.aggregators.WeightedAggregationFactory):
    """Clips, weighs and sums updates, adds noise, and divides by a denominator.

    Attributes:
      initial_clip: the l2 norm clip; an adaptive clip begins with it.
      value_noise_multiplier: the noise process' unit over the clip.
      denominator: the fixed denominator of the average; the least denominator if
        `clipped_denominator`.
      noise_seed: secret; the noise is a pure function of this seed and of the round.
      adaptation: the adaptation of the clip, or None.
      sum_factory: sums the clients' contributions.
      noise_process: gives the noise that is added to the sum.
      clipped_denominator: whether the sum is divided by the larger of `denominator` and
        the sum of the weights; the average's noise is then 2 x unit / `denominator`.
      unit_records: whether clients send their contributions over the clip, of norm at
        most 1, and the server multiplies the sum by the clip.

    Raises:
      ValueError: an adaptive clip has a clipped denominator, or has correlated noise
        (noise that cancels in later rounds must keep its size).
    """

    initial_clip: float
    value_noise_multiplier: float
    denominator: float
    noise_seed: int = dataclasses.field(repr=False)
    adaptation: Optional[Adaptation]
    sum_factory: tff.aggregators.UnweightedAggregationFactory
    noise_process: NoiseProcess = _INDEPENDENT
    clipped_denominator: bool = False
    unit_records: bool = False

    def __post_init__(self) -> None:
        if self.adaptation is None:
            return
        if self.clipped_denominator or self.noise_process != _INDEPENDENT:
            raise ValueError(
                "an adaptive clip goes only with independent noise and a fixed "
                "denominator: use a fixed clip"
            )

    def create(
        self, value_type: tff.Type, weight_type: tff.Type
    ) -> tff.templates.AggregationProcess:
        """Creates the aggregation of `value_type`, a structure of float32 tensors.

        Raises:
          ValueError: the values are not float32, or the noise process depends on a
            shape that is not known.
        """
        if tff.types.count(value_type, _is_not_float32):
            raise ValueError(f"values must be float32 tensors, got {value_type}")
        adaptation, process = self.adaptation, self.noise_process
        plain = adaptation is None and not self.clipped_denominator

        @tff.tensorflow.computation(value_type, weight_type, np_float32())
        def to_record(value: Any, weight: tf.Tensor, clip: tf.Tensor) -> Any:
            record, norm = bounded_record(tf.nest.flatten(value), weight, clip)
            if self.unit_records:
                record = [part / clip for part in record]
            parts = collections.OrderedDict(
                value=tf.nest.pack_sequence_as(value, record)
            )
            if adaptation is not None:
                # ±1/2 instead of 0 and 1, so that a client moves the count by a half.
                parts["below"] = tf.where(norm <= clip, 0.5, -0.5)
            if self.clipped_denominator:
                parts["weight"] = bounded_weight(weight)
            return parts

        record_type = to_record.type_signature.result
        inner = self.sum_factory.create(record_type["value"] if plain else record_type)

        @tff.tensorflow.computation(value_type)
        def flatten(value: Any) -> Any:
            return tf.nest.flatten(value)

        flat = flatten.type_signature.result
        shapes = [flat[index].shape for index in range(len(flat))]

        @tff.tensorflow.computation
        def initial_state() -> Any:
            state = collections.OrderedDict(
                round_number=tf.constant(0, tf.int32),
                noise_seed=seed_tensor(self.noise_seed),
                clip_norm=tf.constant(self.initial_clip, tf.float32),
            )
            noise_state = process.initial_state(shapes)
            if tf.nest.flatten(noise_state):
                state["noise_state"] = noise_state
            return state

        server_state_type = initial_state.type_signature.result
        sum_type = inner.next.type_signature.result.result.member

        @tff.tensorflow.computation(server_state_type, sum_type)
        def release(state: Any, total: Any) -> Any:
            clip, seed = state["clip_norm"], state["noise_seed"]
            round_number = state["round_number"]
            # Points of a sweep that differ only in the multiplier share the program.
            multiplier = argument(self.value_noise_multiplier)
            stddev = multiplier * clip
            value = total if plain else total["value"]
            values = tf.nest.flatten(value)
            if self.unit_records:
                values = [part * clip for part in values]
            draws, noise_state = process.next(
                state.get("noise_state", ()), seed, round_number, values
            )
            if self.clipped_denominator:
                divisor = tf.maximum(total["weight"], self.denominator)
                spread = 2 * stddev / self.denominator
                mean = [v / divisor + spread * n for v, n in zip(values, draws)]
            else:
                spread = stddev / self.denominator
                mean = [
                    (v + stddev * n) / self.denominator for v, n in zip(values, draws)
                ]
            new_clip = clip
            measurements = collections.OrderedDict(clip_norm=clip, noise_stddev=spread)
            if adaptation is not None:
                count_stddev = tf.constant(adaptation.count_stddev, tf.float32)
                # A vector `[1]` marks a measurement that is the same in every round.
                measurements["clipped_count_stddev"] = count_stddev[tf.newaxis]
                count = total["below"] + count_stddev * noise(
                    seed, round_number, 0, total["below"]
                )
                unclipped = count / self.denominator + 0.5
                new_clip = clip * tf.exp(
                    -adaptation.learning_rate * (unclipped - adaptation.quantile)
                )
            new_state = collections.OrderedDict(
                round_number=round_number + 1, noise_seed=seed, clip_norm=new_clip
            )
            if "noise_state" in state:
                new_state["noise_state"] = noise_state
            return new_state, tf.nest.pack_sequence_as(value, mean), measurements

        @tff.federated_computation
        def initialize() -> Any:
            server_state = tff.federated_eval(initial_state, tff.SERVER)
            return tff.federated_zip((server_state, inner.initialize()))

        @tff.federated_computation(
            initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def next_sum(state: Any, value: Any, weight: Any) -> Any:
            server_state, inner_state = state
            clip = tff.federated_broadcast(server_state["clip_norm"])
            records = tff.federated_map(
                to_record, tff.federated_zip((value, weight, clip))
            )
            if plain:
                records = records["value"]
            summed = inner.next(inner_state, records)
            new_server_state, mean, measurements = tff.federated_map(
                release, tff.federated_zip((server_state, summed.result))
            )
            return tff.templates.MeasuredProcessOutput(
                tff.federated_zip((new_server_state, summed.state)), mean, measurements
            )

        return tff.templates.AggregationProcess(initialize, next_sum)


def over_secure_sums(
    factory: NoisedSumFactory, formats: Optional[SumFormats]
) -> NoisedSumFactory:
    """Returns the same mechanism with clients that send everything by secure sums.

    Clients send their contributions over the clip, of norm at most 1, rounded towards
    zero to whole steps. So a contribution's norm does not grow, the sum has the same
    sensitivity, and no number is beyond its bound. With n clients, the error of a
    coordinate of the sum is at most n steps times the clip.

    Args:
      factory: the aggregator factory of a mechanism that noises a sum at the server.
      formats: the fixed-point formats of the secure sums; None returns the factory
        itself.
    """
    if formats is None:
        return factory
    return dataclasses.replace(
        factory, sum_factory=summation.bounded(formats), unit_records=True
    )


def _is_not_float32(part: tff.Type) -> bool:
    return isinstance(part, tff.TensorType) and part.dtype != np.float32


def np_float32() -> tff.TensorType:
    """Returns the TFF type of a float32 scalar."""
    return tff.TensorType(tf.float32.as_numpy_dtype)
