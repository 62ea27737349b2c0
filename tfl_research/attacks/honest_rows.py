"""Statistics of the honest rows of a cohort, which an omniscient attacker knows."""

from __future__ import annotations

import dataclasses
from typing import Optional

import tensorflow as tf

# The least float32 number above 0 with all its digits.
_LEAST_NORMAL = 2.0**-126


@dataclasses.dataclass(frozen=True)
class HonestRows:
    """Statistics of the honest rows, in units of `scale`.

    The unit keeps squares of very large and very small rows within float32. It is a
    power of two, so that no digit of a result depends on it.

    Attributes:
      scale: float32 scalar, the power of two at or below the greatest magnitude of an
        honest row; 1 without one.
      present: bool `[n]`, which rows are honest.
      count: float32 scalar, number of honest rows.
      mean: float32 `[d]`, mean of the honest rows.
      centred: float32 `[n, d]`, honest rows minus the mean; other rows are zero.
    """

    scale: tf.Tensor
    present: tf.Tensor
    count: tf.Tensor
    mean: tf.Tensor
    centred: tf.Tensor

    @classmethod
    def of(
        cls, updates: tf.Tensor, malicious: tf.Tensor, present: tf.Tensor
    ) -> HonestRows:
        honest = present & tf.logical_not(malicious)
        # A product with the mask would keep NaN of a malicious row.
        own = tf.where(honest[:, None], updates, tf.zeros_like(updates))
        scale = _power_of_two(tf.reduce_max(tf.abs(own), axis=(0, 1)))
        own = own / scale
        count = tf.reduce_sum(tf.cast(honest, tf.float32))
        mean = tf.reduce_sum(own, axis=0) / tf.maximum(count, 1.0)
        centred = tf.where(honest[:, None], own - mean, tf.zeros_like(own))
        return cls(scale, honest, count, mean, centred)

    @property
    def stddev(self) -> tf.Tensor:
        """float32 `[d]`."""
        variance = tf.reduce_sum(tf.square(self.centred), axis=0)
        return tf.sqrt(variance / tf.maximum(self.count, 1.0))


def _power_of_two(value: tf.Tensor) -> tf.Tensor:
    """The power of two at or below a float32 number; 1 below normal numbers."""
    exponent = tf.bitwise.bitwise_and(tf.bitcast(value, tf.int32), 0x7F800000)
    found = tf.bitcast(exponent, tf.float32)
    return tf.where(value >= _LEAST_NORMAL, found, tf.ones_like(found))


def replaced(
    updates: tf.Tensor,
    malicious: tf.Tensor,
    present: tf.Tensor,
    rows: tf.Tensor,
    honest: Optional[HonestRows] = None,
) -> tf.Tensor:
    """Replaces the malicious updates by `rows`, `[n, d]` or `[d]`.

    With `honest`, the rows are in units of `honest.scale`.
    """
    chosen = malicious & present
    if honest is not None:
        chosen &= honest.count > 0
        rows = rows * honest.scale
    return tf.where(chosen[:, None], rows, updates)
