"""Turns updates into vectors, and stacks them in a TFF aggregation's accumulator."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff


@dataclasses.dataclass(frozen=True)
class Layout:
    """Says where the tensors of a structure lie in a vector.

    Attributes:
      value_type: type of the structure.
      shapes: shapes of the tensors, in order.
    """

    value_type: tff.Type
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, value_type: tff.Type) -> Layout:
        """Returns the layout of a structure of float32 tensors.

        Raises:
          ValueError: a tensor is not float32, or a shape is not static.
        """
        leaves: list[Any] = _leaves(value_type)
        for leaf in leaves:
            if not isinstance(leaf, tff.TensorType) or leaf.dtype != np.float32:
                raise ValueError(f"values must be float32 tensors, got {value_type}")
            if leaf.shape is None or None in tuple(leaf.shape):
                raise ValueError(f"values must have static shapes, got {value_type}")
        return cls(value_type, tuple(tuple(leaf.shape) for leaf in leaves))

    @property
    def size(self) -> int:
        """d, the number of entries of the vector."""
        return sum(int(np.prod(shape)) for shape in self.shapes)

    def flatten(self, value: Any) -> tf.Tensor:
        """Flattens a value, as a TFF computation receives it, to float32 `[d]`."""
        if isinstance(self.value_type, tff.StructType):
            # TFF keeps the order of members; `tf.nest` would sort them by name.
            value = tff.structure.from_container(value, recursive=True)
        return tf.concat([tf.reshape(v, [-1]) for v in _leaves(value)], axis=0)

    def unflatten(self, vector: tf.Tensor) -> Any:
        """Turns a vector back into the structure, with the structure's containers."""
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        parts = [
            tf.reshape(part, shape)
            for part, shape in zip(tf.split(vector, sizes), self.shapes)
        ]
        return tff.structure.pack_sequence_as(self.value_type, parts)


def _leaves(value: Any) -> list[Any]:
    """Returns a TFF structure's leaves in order, or a list with a single value."""
    if isinstance(value, tff.structure.Struct):
        return list(tff.structure.flatten(value))
    return [value]


def stack_computations(
    capacity: int, layout: Layout, value_type: tff.Type, weight_type: tff.Type
) -> tuple[Any, Any, Any, Any]:
    """Returns zero, accumulate, merge and report, for `tff.federated_aggregate`.

    The stack has values float32 `[capacity, d]`, weights float32 `[capacity]` and int32
    counts of stored rows and of offered, excluded and dropped clients.
    """

    @tff.tensorflow.computation
    def zero() -> Any:
        return collections.OrderedDict(
            values=tf.zeros([capacity, layout.size], tf.float32),
            weights=tf.zeros([capacity], tf.float32),
            stored=tf.constant(0, tf.int32),
            offered=tf.constant(0, tf.int32),
            excluded=tf.constant(0, tf.int32),
            dropped=tf.constant(0, tf.int32),
        )

    stack_type = zero.type_signature.result

    @tff.tensorflow.computation(stack_type, (value_type, weight_type))
    def accumulate(stack: Any, client: Any) -> Any:
        value, weight = client
        vector = layout.flatten(value)
        weight = tf.cast(weight, tf.float32)
        offered = tf.logical_not(tf.equal(weight, 0))
        honest = tf.reduce_all(tf.math.is_finite(vector))
        honest &= tf.math.is_finite(weight) & (weight >= 0)
        fits = stack["stored"] < capacity
        kept = offered & honest & fits
        # The next row is zero. So an addition writes the client's row, and an addition
        # of zeros leaves the client out. XLA executes this operation without a branch
        # in place, and does not copy the stack.
        place = tf.minimum(stack["stored"], capacity - 1)
        row = tf.where(kept, vector, tf.zeros_like(vector))
        own = tf.where(kept, weight, tf.zeros_like(weight))

        def as_int(condition: tf.Tensor) -> tf.Tensor:
            return tf.cast(condition, tf.int32)

        return collections.OrderedDict(
            values=tf.tensor_scatter_nd_add(stack["values"], [[place]], row[None, :]),
            weights=tf.tensor_scatter_nd_add(stack["weights"], [[place]], own[None]),
            stored=stack["stored"] + as_int(kept),
            offered=stack["offered"] + as_int(offered),
            excluded=stack["excluded"] + as_int(offered & tf.logical_not(honest)),
            dropped=stack["dropped"] + as_int(offered & honest & tf.logical_not(fits)),
        )

    @tff.tensorflow.computation(stack_type, stack_type)
    def merge(first: Any, second: Any) -> Any:
        first_stored = first["stored"]
        stored = tf.minimum(first_stored + second["stored"], capacity)
        positions = tf.range(capacity)
        own = positions < first_stored
        source = tf.clip_by_value(positions - first_stored, 0, capacity - 1)

        def appended(name: str) -> tf.Tensor:
            mask = own if name == "weights" else own[:, None]
            # The second stack's padding comes after its rows.
            return tf.where(mask, first[name], tf.gather(second[name], source))

        lost = first_stored + second["stored"] - stored
        return collections.OrderedDict(
            values=appended("values"),
            weights=appended("weights"),
            stored=stored,
            offered=first["offered"] + second["offered"],
            excluded=first["excluded"] + second["excluded"],
            dropped=first["dropped"] + second["dropped"] + lost,
        )

    @tff.tensorflow.computation(stack_type)
    def report(stack: Any) -> Any:
        return stack

    return zero, accumulate, merge, report
