"""Random tensors that are the same numbers under every runtime and compiler.

TensorFlow's own stateless uniforms and normals differ between XLA and its kernels
even where both use Philox; only the integers agree. Everything here is made from
those integers, with operations that agree to float rounding.
"""

from __future__ import annotations

import math
from typing import Any, Union

import tensorflow as tf


def integers(shape: Any, seed: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Uniform integers over the whole range of an integer dtype."""
    return tf.random.stateless_uniform(
        shape, seed, minval=None, maxval=None, dtype=dtype, alg="philox"
    )


def fold_in(seed: tf.Tensor, data: Union[int, tf.Tensor]) -> tf.Tensor:
    """A new seed, int32 or int64 `[2]` like `seed`, for every integer `data`.

    The old seed cannot be told from the new one without inverting Philox, and all
    its bits count. Seeds that are folded from one seed differ by their `data`, so that
    whoever knows one of them knows the others.
    """
    first, second = tf.unstack(integers([2], seed, seed.dtype))
    return tf.stack([first, second + tf.cast(data, seed.dtype)])


def uniform(shape: Any, seed: tf.Tensor) -> tf.Tensor:
    """float32 numbers in (0, 1], from 32 random bits each.

    Close to 0 they are dense, and the least is 2^-33.
    """
    bits = tf.cast(integers(shape, seed, tf.uint32), tf.float32)
    return (bits + 0.5) * 2.0**-32


def normal(shape: Any, seed: tf.Tensor) -> tf.Tensor:
    """float32 standard normal numbers, by the transform of Box and Muller (1958).

    A number takes one block of Philox, two words of 64 bits: 96 bits for the radius,
    32 bits for the angle. The radius is sqrt(-2 log u) with u = (k + 1/2) 2^-96 for a
    uniform k in [0, 2^96). In float32, u keeps 24 significant bits down to 2^-72, and
    the least u is 2^-97: tails end at 11.6 standard deviations. The first bit chooses
    between u and 1 - u, of which the smaller one has the other 95 bits, so that small
    radii are as exact as large ones.

    A number is that of an exact draw up to the rounding of float32, except with
    probability 2^-72 (`privacy.accounting.sampler_rest`). What is left is the rounding:
    a float32 number is not drawn as often as a normal number is rounded to it, which an
    attacker who sees all bits can use (Mironov 2012, On significance of the least
    significant bits for differential privacy). A finer generator alone does not close
    this, since the sums to which the noise is added are float32 too.
    """
    # A scalar's shape is empty, and has no dtype of its own.
    words = tf.concat([[2], tf.convert_to_tensor(shape, tf.int32)], 0)
    first, second = tf.unstack(integers(words, fold_in(seed, 0), tf.int64))
    upper = first < 0
    # The complement of a negative number: 63 bits of 1 - u, where the sign chose that.
    high = tf.bitwise.bitwise_xor(first, tf.bitwise.right_shift(first, _bits(63)))
    low = tf.bitwise.bitwise_and(
        tf.bitwise.right_shift(second, _bits(32)), _bits(2**32 - 1)
    )
    # At most 1/2 and at least 2^-97, with no subnormal number on the way.
    smaller = tf.cast(high, tf.float32) * 2.0**-64 + (
        tf.cast(low, tf.float32) * 2.0**-96 + 2.0**-97
    )
    logarithm = tf.where(upper, tf.math.log1p(-smaller), tf.math.log(smaller))
    # The low word, signed: an angle in (-pi, pi).
    angle = (tf.cast(tf.cast(second, tf.int32), tf.float32) + 0.5) * 2.0**-31
    return tf.sqrt(-2.0 * logarithm) * tf.cos(math.pi * angle)


def _bits(number: int) -> tf.Tensor:
    return tf.constant(number, tf.int64)


def dropout(
    inputs: tf.Tensor, rate: float, seed: tf.Tensor, noise_shape: Any = None
) -> tf.Tensor:
    """Zeroes each entry with probability `rate` and scales the rest by 1/(1-rate)."""
    if rate == 0:
        return inputs
    if noise_shape is None:
        shape = tf.shape(inputs)
    else:
        whole = tf.shape(inputs)
        shape = tf.stack(
            [whole[i] if n is None else n for i, n in enumerate(noise_shape)]
        )
    kept = uniform(shape, seed) > rate
    return tf.where(kept, inputs / (1.0 - rate), tf.zeros_like(inputs))
