"""Integer noise and conditional rounding as pure functions of a seed."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfl_research import stateless_random
from tfl_research.privacy.mechanisms.noise.noise_tables import COLUMN_BITS, NoiseTable

# Largest number of attempts to round a vector; an attempt succeeds with probability at
# least 1 - β, and nearly always in practice.
ROUNDING_ATTEMPTS = 64


def draw(shape: Sequence[int], seed: tf.Tensor, table: NoiseTable) -> tf.Tensor:
    """Draws integer noise, int64 of a shape; the noise is the same on every runtime.

    The draw uses only integers. Of 128 random bits, 62 are compared with the threshold,
    one bit decides the sign, and further bits decide the column.

    Args:
      shape: the shape of the result.
      seed: int32 or int64 `[2]`.
      table: the table of the noise' size.
    """
    words = stateless_random.integers([2, *shape], seed, tf.int64)
    below = tf.constant((1 << COLUMN_BITS) - 1, tf.int64)
    height = tf.bitwise.bitwise_and(words[0], below)
    column_mask = tf.constant(table.columns - 1, tf.int64)
    column = tf.cast(tf.bitwise.bitwise_and(words[1], column_mask), tf.int32)
    threshold = tf.gather(tf.constant(table.thresholds), column)
    alias = tf.gather(tf.constant(table.aliases), column)
    size = tf.cast(tf.where(height < threshold, column, alias), tf.int64)
    return tf.where(words[1] < 0, -size, size)


def squared_norm(vector: tf.Tensor) -> tf.Tensor:
    """Computes the exact squared l2 norm of an integer vector, int64 `[]`."""
    return tf.reduce_sum(vector * vector)


def conditional_round(
    vector: tf.Tensor, squared_norm_bound: int, seed: tf.Tensor
) -> tf.Tensor:
    """Rounds coordinates up or down at random, until the norm is within the bound.

    Kairouz, Liu and Steinke 2021 (arXiv 2102.06387), Algorithm 1: each coordinate
    goes to one of its two neighbours, so that its expectation is the coordinate. If
    the integer vector's norm exceeds the bound, all coordinates are drawn again. The
    norm is computed in integers, so the bound holds exactly. After `ROUNDING_ATTEMPTS`
    the vector is rounded towards zero; if it is still too long, the result is zero.

    Args:
      vector: float32 `[d]`.
      squared_norm_bound: largest squared l2 norm of the result.
      seed: int32 or int64 `[2]`.

    Returns:
      int64 `[d]`.
    """
    below = tf.floor(vector)
    fraction = vector - below
    lower = tf.cast(below, tf.int64)
    bound = tf.constant(squared_norm_bound, tf.int64)

    def attempt(number: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        level = stateless_random.uniform(
            vector.shape, stateless_random.fold_in(seed, number)
        )
        return number + 1, lower + tf.cast(level <= fraction, tf.int64)

    def rejected(number: tf.Tensor, rounded: tf.Tensor) -> tf.Tensor:
        again = (number < ROUNDING_ATTEMPTS) & (squared_norm(rounded) > bound)
        # `==` compares identities in the graphs that TFF builds.
        return tf.equal(number, 0) | again

    _, rounded = tf.while_loop(
        rejected, attempt, (tf.constant(0), lower), parallel_iterations=1
    )
    truncated = tf.cast(vector, tf.int64)
    fallback = tf.where(
        squared_norm(truncated) <= bound, truncated, tf.zeros_like(truncated)
    )
    return tf.where(squared_norm(rounded) <= bound, rounded, fallback)
