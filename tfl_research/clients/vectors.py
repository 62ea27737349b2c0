"""Converts lists of tensors to one vector (the form of clients' states), and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def size_of(specs: Sequence[tf.TensorSpec]) -> int:
    """Total number of entries of all tensors."""
    return sum(int(np.prod(spec.shape, dtype=np.int64)) for spec in specs)


def to_vector(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Concatenates the tensors' entries to float32 `[d]`."""
    return tf.concat([tf.reshape(t, [-1]) for t in tensors], axis=0)


def from_vector(vector: tf.Tensor, specs: Sequence[tf.TensorSpec]) -> list[tf.Tensor]:
    """The inverse of `to_vector`."""
    sizes = [size_of([spec]) for spec in specs]
    return [
        tf.reshape(part, spec.shape)
        for part, spec in zip(tf.split(vector, sizes), specs)
    ]


def all_finite(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Whether no entry of any tensor is NaN or infinite, a bool scalar."""
    # One tensor of known rank needs fewer operations than a list.
    return tf.reduce_all(
        tf.stack([tf.reduce_all(tf.math.is_finite(tensor)) for tensor in tensors])
    )
