"""Statistics of the honest rows of a cohort, which an omniscient attacker knows."""

from __future__ import annotations

import dataclasses
from typing import Optional

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class HonestRows:
    """Statistics of the honest rows.

    Attributes:
      present: bool `[n]`, which rows are honest.
      count: float32 scalar, number of honest rows.
      mean: float32 `[d]`, mean of the honest rows.
      centred: float32 `[n, d]`, honest rows minus the mean; other rows are zero.
    """

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
        count = tf.reduce_sum(tf.cast(honest, tf.float32))
        mean = tf.reduce_sum(own, axis=0) / tf.maximum(count, 1.0)
        centred = tf.where(honest[:, None], own - mean, tf.zeros_like(own))
        return cls(honest, count, mean, centred)

    @property
    def stddev(self) -> tf.Tensor:
        """float32 `[d]`."""
        variance = tf.reduce_sum(tf.square(self.centred), axis=0)
        return tf.sqrt(variance / tf.maximum(self.count, 1.0))


def replaced(
    updates: tf.Tensor,
    malicious: tf.Tensor,
    present: tf.Tensor,
    rows: tf.Tensor,
    honest: Optional[HonestRows] = None,
) -> tf.Tensor:
    """Replaces the malicious updates by `rows`, `[n, d]` or `[d]`."""
    chosen = malicious & present
    if honest is not None:
        chosen &= honest.count > 0
    return tf.where(chosen[:, None], rows, updates)
