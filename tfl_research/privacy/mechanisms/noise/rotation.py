"""The randomised Hadamard transform: spreads a vector evenly over its coordinates."""

from __future__ import annotations

import math

import tensorflow as tf

from tfl_research import stateless_random


def hadamard(vector: tf.Tensor) -> tf.Tensor:
    """Computes H x / √d for the Walsh-Hadamard matrix H; the transform inverts itself.

    Args:
      vector: float32 `[d]`, d a static power of two.

    Returns:
      float32 `[d]`.

    Raises:
      ValueError: the length is no power of two.
    """
    (length,) = vector.shape
    if length is None or length < 1 or length & (length - 1):
        raise ValueError(f"the length must be a power of two, got {length}")
    half = 1
    while half < length:
        pairs = tf.reshape(vector, [-1, 2, half])
        left, right = pairs[:, 0], pairs[:, 1]
        vector = tf.stack([left + right, left - right], axis=1)
        half *= 2
    return tf.reshape(vector, [length]) / math.sqrt(length)


def _signs(length: int, seed: tf.Tensor) -> tf.Tensor:
    words = stateless_random.integers([length], seed, tf.int32)
    return tf.where(words < 0, -1.0, 1.0)


def rotate(vector: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Computes H D x / √d, where D is a diagonal of random signs.

    The coordinates of any fixed vector become sub-Gaussian with variance |x|²/d
    (Kairouz, Liu and Steinke 2021, arXiv 2102.06387, Lemma 29).

    Args:
      vector: float32 `[d]`, d a static power of two.
      seed: seed of the signs, int32 or int64 `[2]`; public, the same for all clients.
    """
    return hadamard(vector * _signs(vector.shape[0], seed))


def rotate_back(vector: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Inverts `rotate`."""
    return hadamard(vector) * _signs(vector.shape[0], seed)
