"""Sums fixed-point numbers securely, inside TFF computations."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.aggregators.secure_sums.formats import FixedPoint, SumFormats


def encode(
    value: tf.Tensor, numbers: FixedPoint, *, towards_zero: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """Converts a client's numbers to steps, and tells whether a number was clipped.

    A number beyond the bound becomes the bound, NaN becomes 0, and both count as
    clipped. Zero stays zero.

    Args:
      value: float or integer tensor.
      numbers: the format.
      towards_zero: if true, rounds towards zero, so that no magnitude and no norm
        grows; a privacy guarantee may depend on the norm. If false, rounds to the
        nearest step, and ties to the even number of steps.

    Returns:
      The steps, int64 of the same shape, and whether a number was clipped, bool `[]`.
    """
    exact = tf.cast(value, tf.float64)
    scaled = exact * tf.constant(math.ldexp(1.0, numbers.fraction_bits), tf.float64)
    most = tf.constant(float(numbers.largest), tf.float64)
    # The comparison is False for NaN, so NaN counts as clipped.
    fits = tf.abs(scaled) <= most
    scaled = tf.where(tf.math.is_nan(scaled), tf.zeros_like(scaled), scaled)
    scaled = tf.minimum(tf.maximum(scaled, -most), most)
    steps = tf.cast(scaled if towards_zero else tf.round(scaled), tf.int64)
    return steps, tf.logical_not(tf.reduce_all(fits))


def decode(total: tf.Tensor, numbers: FixedPoint, dtype: tf.DType) -> tf.Tensor:
    """Converts a sum of steps back to the sum of the clients' numbers.

    Args:
      total: int64, sum of the steps modulo 2^bits, in any range.
      numbers: the format.
      dtype: the dtype of the result.
    """
    half = tf.constant(numbers.modulus // 2, tf.int64)
    mask = tf.constant(numbers.modulus - 1, tf.int64)
    residue = tf.bitwise.bitwise_and(total + half, mask)
    steps = residue - half
    if dtype.is_integer:
        return tf.cast(steps, dtype)
    return tf.cast(tf.cast(steps, tf.float64) * numbers.step, dtype)


def rounded(value: tf.Tensor, numbers: FixedPoint) -> tf.Tensor:
    """Rounds a client's number as the server will read it; keeps the dtype."""
    return decode(encode(value, numbers)[0], numbers, value.dtype)


@dataclasses.dataclass(frozen=True)
class Numbers:
    """The formats of the scalars and of the other tensors of a structure."""

    scalars: FixedPoint
    tensors: FixedPoint
    towards_zero: bool = False

    def of(self, spec: tf.TensorSpec) -> FixedPoint:
        """Returns the format of a tensor."""
        return self.scalars if spec.shape.rank == 0 else self.tensors


def federated_total(
    value: Any, numbers: Sequence[Numbers], *, secure: bool
) -> tuple[Any, Any]:
    """Sums a tuple of structures over the clients, in a federated computation.

    Args:
      value: a value at the clients: a tuple with a structure of tensors for each entry
        of `numbers`.
      numbers: the number formats of each structure.
      secure: see `SumFormats`.

    Returns:
      At the server: the sums, and int32 `[]`, the number of clients with a clipped
      number.
    """
    value_type = value.type_signature.member
    specs = tuple(tff.types.type_to_tf_tensor_specs(part) for part in value_type)
    formats = [
        (each.of(spec), each.towards_zero)
        for each, part in zip(numbers, specs)
        for spec in tf.nest.flatten(part)
    ]
    ones = FixedPoint(numbers[0].scalars.bits, 0, 1)
    moduli = [numbers.modulus for numbers, _ in formats] + [ones.modulus]

    @tff.tensorflow.computation(value_type)
    def send(parts: Any) -> Any:
        sent, clipped = [], tf.constant(False)
        leaves = [leaf for part in tuple(parts) for leaf in tf.nest.flatten(part)]
        for leaf, (form, towards_zero) in zip(leaves, formats):
            steps, beyond = encode(leaf, form, towards_zero=towards_zero)
            sent.append(steps)
            clipped |= beyond
        sent.append(tf.cast(clipped, tf.int64))
        if not secure:
            return sent
        return [
            tf.bitwise.bitwise_and(steps, tf.constant(modulus - 1, tf.int64))
            for steps, modulus in zip(sent, moduli)
        ]

    sent = tff.federated_map(send, value)
    if secure:
        total = tff.backends.mapreduce.federated_secure_modular_sum(sent, moduli)
    else:
        total = tff.federated_sum(sent)

    @tff.tensorflow.computation(total.type_signature.member)
    def receive(totals: Any) -> Any:
        *left, clipped = list(totals)
        parts, place = [], 0
        for part in specs:
            leaves = tf.nest.flatten(part)
            own = range(place, place + len(leaves))
            place += len(leaves)
            read = [
                decode(left[i], formats[i][0], spec.dtype)
                for i, spec in zip(own, leaves)
            ]
            parts.append(tf.nest.pack_sequence_as(part, read))
        return tuple(parts), decode(clipped, ones, tf.int32)

    received = tff.federated_map(receive, total)
    return received[0], received[1]


@dataclasses.dataclass(frozen=True)
class SecureSumFactory(tff.aggregators.UnweightedAggregationFactory):
    """Sums structures of fixed-point numbers by TFF's modular secure sums.

    The result is off by at most half a step for each client and coordinate
    (`FixedPoint.largest_error`), or by a step where numbers are rounded towards zero.
    Whole numbers within the bound are exact.

    Attributes:
      numbers: the formats.
      secure: see `SumFormats`.
      counts_clipped: whether the process measures `clipped_clients`, int32 `[]`, the
        number of clients with a number beyond its bound. Set it to False for numbers
        that are within the bound by construction; then nothing is measured.
    """

    numbers: Numbers
    secure: bool = True
    counts_clipped: bool = True

    def create(self, value_type: tff.Type) -> tff.templates.AggregationProcess:
        """Creates the summation of a tensor or a structure of tensors."""

        @tff.federated_computation
        def initialize() -> Any:
            return tff.federated_value((), tff.SERVER)

        pair = tff.StructWithPythonType([(None, value_type)], tuple)

        @tff.tensorflow.computation(value_type)
        def alone(value: Any) -> Any:
            return (value,)

        @tff.tensorflow.computation(pair)
        def first(values: Any) -> Any:
            return values[0]

        @tff.tensorflow.computation(tf.int32.as_numpy_dtype)
        def measured(clipped: tf.Tensor) -> Any:
            return collections.OrderedDict(clipped_clients=clipped)

        @tff.federated_computation(
            initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
        )
        def next_sum(state: Any, value: Any) -> Any:
            totals, clipped = federated_total(
                tff.federated_map(alone, value), [self.numbers], secure=self.secure
            )
            measurements = tff.federated_value((), tff.SERVER)
            if self.counts_clipped:
                measurements = tff.federated_map(measured, clipped)
            return tff.templates.MeasuredProcessOutput(
                state, tff.federated_map(first, totals), measurements
            )

        return tff.templates.AggregationProcess(initialize, next_sum)


def updates(formats: SumFormats) -> SecureSumFactory:
    """Sums updates and reports, and counts clients whose numbers are clipped."""
    return SecureSumFactory(Numbers(formats.scalars, formats.tensors), formats.secure)


def weights(formats: SumFormats) -> SecureSumFactory:
    """Sums clients' weights, and counts clients whose weight is clipped."""
    return SecureSumFactory(Numbers(formats.weights, formats.weights), formats.secure)


def counts(formats: SumFormats) -> SecureSumFactory:
    """Sums whole numbers, exactly."""
    numbers = Numbers(formats.counts, formats.counts)
    return SecureSumFactory(numbers, formats.secure, counts_clipped=False)


def bounded(formats: SumFormats) -> SecureSumFactory:
    """Sums structures whose numbers are within [-1, 1], and whose norms must not grow.

    Numbers are rounded towards zero.
    """
    numbers = Numbers(formats.wide(1.0), formats.units, towards_zero=True)
    return SecureSumFactory(numbers, formats.secure, counts_clipped=False)


def or_plain(
    formats: Optional[SumFormats],
) -> tff.aggregators.UnweightedAggregationFactory:
    """Returns `updates(formats)`, or plain summation if there are no formats."""
    return tff.aggregators.SumFactory() if formats is None else updates(formats)
