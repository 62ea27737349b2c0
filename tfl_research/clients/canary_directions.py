"""Makes random directions of canaries when needed, and computes cosines with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfl_research import stateless_random
from tfl_research.clients.vectors import all_finite
from tfl_research.data import derived_generator


def direction_seed(seed: int) -> np.ndarray:
    """Returns the seed of all canaries' directions, int32 `[2]`."""
    generator = derived_generator("canary directions", seed)
    return generator.integers(0, 2**31 - 1, size=2, dtype=np.int32)


def direction(shapes: Sequence[Any], seed: Any, index: Any) -> list[tf.Tensor]:
    """Draws a random unit vector, uniform on the unit sphere of all weights.

    The function is pure. Directions of different indices are independent.

    Args:
      shapes: static shapes of the weights.
      seed: int32 `[2]`, see `direction_seed`.
      index: int32 scalar, number j of the canary, from 1.

    Returns:
      float32 tensors of these shapes, with a global l2 norm of 1.
    """
    own = stateless_random.fold_in(tf.convert_to_tensor(seed), index)
    normals = stateless_random.normals(shapes, own)
    norm = tf.linalg.global_norm(normals)
    return [tf.math.divide_no_nan(n, norm) for n in normals]


def cosines(tensors: Sequence[Any], seed: Any, count: int) -> tf.Tensor:
    """Computes cosines of a vector with the directions of canaries 1 to `count`.

    Directions are made one after another, so that memory does not grow with `count`.
    Each direction takes one normal number for each entry of the vector.

    Args:
      tensors: float32 tensors of static shapes, which together are the vector. The
        cosines are 0 if the vector is zero or has an entry that is not finite.
      seed: int32 `[2]`, see `direction_seed`.
      count: at least 1.

    Returns:
      float32 `[count]`.
    """
    unit = unit_vector(tensors)
    shapes = [t.shape for t in unit]

    def step(position: tf.Tensor, result: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        drawn = direction(shapes, seed, position + 1)
        cosine = tf.add_n([tf.reduce_sum(u * d) for u, d in zip(unit, drawn)])
        return position + 1, tf.where(
            tf.equal(tf.range(count), position), cosine, result
        )

    _, result = tf.while_loop(
        lambda position, _: position < count,
        step,
        (tf.constant(0, tf.int32), tf.zeros([count], tf.float32)),
    )
    return result


def unit_vector(tensors: Sequence[Any]) -> list[tf.Tensor]:
    """Divides a vector by its l2 norm; zero if the vector is zero or not finite.

    Values are first divided by the largest magnitude, since squares of large float32
    overflow.
    """
    values = [tf.convert_to_tensor(t) for t in tensors]
    finite = all_finite(values)
    values = [tf.where(finite, v, tf.zeros_like(v)) for v in values]
    nonempty = [v for v in values if v.shape.num_elements() != 0]
    largest = tf.reduce_max([tf.reduce_max(tf.abs(v)) for v in nonempty])
    scaled = [tf.math.divide_no_nan(v, largest) for v in values]
    norm = tf.linalg.global_norm(scaled)
    return [tf.math.divide_no_nan(s, norm) for s in scaled]
