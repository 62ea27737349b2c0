"""Random tensors that are the same numbers under every runtime and compiler.

TensorFlow's own stateless uniforms and normals differ between XLA and TensorFlow's
kernels, even where both use Philox; only the integers agree. The functions here make
all numbers from these integers, by operations that agree up to float rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Union

import tensorflow as tf


def integers(shape: Any, seed: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Draws uniform integers over the whole range of an integer dtype."""
    return tf.random.stateless_uniform(
        shape, seed, minval=None, maxval=None, dtype=dtype, alg="philox"
    )


def fold_in(seed: tf.Tensor, data: Union[int, tf.Tensor]) -> tf.Tensor:
    """Derives a new seed, int32 or int64 `[2]` like `seed`, for every integer `data`.

    Nobody can compute the old seed from the new seed without inverting Philox. All bits
    of the old seed count. Two seeds that are folded from the same seed differ by a
    function of their `data`, so whoever knows one of them can compute the other.
    """
    first, second = tf.unstack(integers([2], seed, seed.dtype))
    return tf.stack([first, second + tf.cast(data, seed.dtype)])


def uniform(shape: Any, seed: tf.Tensor) -> tf.Tensor:
    """Draws float32 numbers in (0, 1], each from 32 random bits.

    The numbers are dense close to 0. The smallest number is 2^-33.
    """
    bits = tf.cast(integers(shape, seed, tf.uint32), tf.float32)
    return (bits + 0.5) * 2.0**-32


def uniforms(shapes: Sequence[Any], seed: tf.Tensor) -> list[tf.Tensor]:
    """Draws `uniform` numbers for several tensors; see `normals`."""
    return _together(uniform, shapes, seed)


def normals(shapes: Sequence[Any], seed: tf.Tensor) -> list[tf.Tensor]:
    """Draws `normal` numbers for several tensors.

    XLA needs a fifth of a second to compile a random operation, whatever its size. So
    tensors that follow one another are drawn together, up to a million numbers.

    Args:
      shapes: static shapes of the tensors.
      seed: int32 or int64 `[2]`; must not be used for other draws.

    Returns:
      float32 tensors of these shapes.
    """
    return _together(normal, shapes, seed)


# The most numbers that several tensors are drawn with: 16 MB with their random words.
_TOGETHER = 2**20


def _together(
    draw: Callable[[Any, tf.Tensor], tf.Tensor], shapes: Sequence[Any], seed: tf.Tensor
) -> list[tf.Tensor]:
    sizes = [int(tf.TensorShape(shape).num_elements()) for shape in shapes]
    groups: list[list[int]] = []
    for size in sizes:
        if groups and sum(groups[-1]) + size <= _TOGETHER:
            groups[-1].append(size)
        else:
            groups.append([size])
    parts: list[tf.Tensor] = []
    for number, group in enumerate(groups):
        own = seed if len(groups) == 1 else fold_in(seed, number)
        parts += tf.split(draw([sum(group)], own), group)
    return [tf.reshape(part, shape) for part, shape in zip(parts, shapes)]


# The number of radii that share one finest word v, see `normal`.
_SHARING = 128


def normal(shape: Any, seed: tf.Tensor) -> tf.Tensor:
    """Draws float32 standard normal numbers by the transform of Box and Muller (1958).

    Two numbers are the cosine and the sine of one angle times one radius. The radius is
    sqrt(-2 log u), where u = t mod 1 and t = (j + v) 2^-64. The integer j has 64 random
    bits and lies around 0, and v in [-1/2, 1/2) has 32 bits. So u and 1 - u keep 24
    significant bits down to 2^-72: tails and small radii are as exact as the rest. The
    smallest u is 2^-97, so the tails end at 11.6 standard deviations. The angle has 32
    bits.

    v changes a radius only where |j| < 2^24, which has probability 2^-39. So 128 radii
    share one v. A number equals an exact draw up to the rounding of float32, except
    with probability 2^-70 (`privacy.accounting.sampler_rest` has the proof). Only the
    rounding remains: the probability of a float32 number is not the probability that a
    normal number rounds to it. An attacker who sees all bits can use the difference
    (Mironov 2012, On significance of the least significant bits for differential
    privacy). A finer generator alone does not help, since the noise is added to float32
    sums.
    """
    # A scalar's shape is an empty list, which does not determine a dtype.
    shape = tf.convert_to_tensor(shape, tf.int32)
    size = tf.reduce_prod(shape)
    columns = (size + 2 * _SHARING - 1) // (2 * _SHARING)
    words = integers(tf.stack([3 * _SHARING + 1, columns]), fold_in(seed, 0), tf.int32)
    high, low, angle, finest = tf.split(words, [*[_SHARING] * 3, 1])
    pairs = _box_muller(high, low, finest, angle)
    return tf.reshape(tf.reshape(pairs, [-1])[:size], shape)


def _box_muller(
    high: tf.Tensor, low: tf.Tensor, finest: tf.Tensor, angle: tf.Tensor
) -> tf.Tensor:
    """Makes two normal numbers `[2, ...]` from words, int32 of compatible shapes.

    Args:
      high: the upper word of j.
      low: the lower word of j, signed: j = 2^32 high + low.
      finest: v in units of 2^-32.
      angle: in units of pi 2^-31.
    """
    high, low, finest, angle = (
        tf.cast(word, tf.float32) for word in (high, low, finest, angle)
    )
    t = (high + (low + finest * 2.0**-32) * 2.0**-32) * 2.0**-32
    whole = tf.floor(t)
    u = t - whole
    # The rounding error of u close to 1: log(u + rest) = log(u) + rest / u.
    rest = t - (u + whole)
    u = tf.maximum(u, 2.0**-97)
    radius = tf.sqrt(-2.0 * (tf.math.log(u) + rest / u))
    radians = (angle + 0.5) * (math.pi * 2.0**-31)
    # In this form XLA computes a radius once.
    return radius * tf.stack([tf.cos(radians), tf.sin(radians)])


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
