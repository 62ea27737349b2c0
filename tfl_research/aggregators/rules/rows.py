"""Stacked updates with absent rows, and the screening of hostile rows."""

from __future__ import annotations

import dataclasses
from typing import Any, Optional, Union

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows that a rule aggregates; all of them are finite.

    A row counts if its weight is above 0. Other rows are padding: they are zeros and
    have no effect on the result of a rule.

    Attributes:
      values: float32 `[n, d]`, d static.
      weights: float32 `[n]`, at least 0 and finite.
      excluded: int32 scalar, number of hostile rows that were taken out. These rows
        are among the `byzantine` rows that a rule expects, so the rule expects fewer
        hostile rows among the remaining rows.
      offered: int32 scalar, number of rows that clients sent: rows that count and
        excluded rows. Shares of the cohort refer to this number.
      weighted: whether the weights are used; otherwise every row that counts has
        weight 1.
    """

    values: tf.Tensor
    weights: tf.Tensor
    excluded: tf.Tensor
    offered: tf.Tensor
    weighted: bool = False

    @property
    def present(self) -> tf.Tensor:
        """Tells which rows count, bool `[n]`."""
        return self.weights > 0

    @property
    def count(self) -> tf.Tensor:
        """Number of rows that count, int32 `[]`."""
        return tf.reduce_sum(tf.cast(self.present, tf.int32))

    @property
    def shares(self) -> tf.Tensor:
        """Weights that sum to 1, float64 `[n]`; zeros if no row counts."""
        weights = self.weights if self.weighted else tf.cast(self.present, tf.float32)
        exact = tf.cast(weights, tf.float64)
        return tf.math.divide_no_nan(exact, tf.reduce_sum(exact))

    def remaining(self, byzantine: Any) -> tf.Tensor:
        """Counts the `byzantine` hostile rows that are not yet excluded, int32 `[]`."""
        return tf.maximum(tf.convert_to_tensor(byzantine, tf.int32) - self.excluded, 0)


# The argument of a rule: a matrix `[n, d]` or screened rows.
Updates = Union[tf.Tensor, Rows, Any]


def screen(updates: Any, weights: Optional[Any] = None) -> Rows:
    """Excludes rows that no honest client sends.

    A row is excluded if a value is NaN or infinite, or if its weight is NaN, infinite
    or negative. Rows with weight 0 are ignored: they are padding, not clients.

    Args:
      updates: float32 `[n, d]`, d static.
      weights: float32 `[n]`; 1 for every row by default.

    Raises:
      ValueError: the updates are not float32 `[n, d]`.
    """
    values = tf.convert_to_tensor(updates)
    if values.dtype != tf.float32 or values.shape.rank != 2:
        raise ValueError(
            f"updates must be float32 [n, d], got {values.dtype.name} {values.shape}"
        )
    weighted = weights is not None
    if not weighted:
        weights = tf.ones(tf.shape(values)[:1], tf.float32)
    weights = tf.convert_to_tensor(weights, tf.float32)
    finite = tf.reduce_all(tf.math.is_finite(values), axis=1)
    honest = finite & tf.math.is_finite(weights) & (weights >= 0)
    offered = tf.logical_not(tf.equal(weights, 0))
    counts = honest & offered
    return Rows(
        tf.where(counts[:, None], values, tf.zeros_like(values)),
        tf.where(counts, weights, tf.zeros_like(weights)),
        tf.reduce_sum(tf.cast(offered & tf.logical_not(honest), tf.int32)),
        tf.reduce_sum(tf.cast(offered, tf.int32)),
        weighted,
    )


def as_rows(updates: Updates, weights: Optional[Any] = None) -> Rows:
    """Screens a matrix with weights; returns `Rows` without changes.

    Raises:
      ValueError: weights are given together with `Rows`.
    """
    if not isinstance(updates, Rows):
        return screen(updates, weights)
    if weights is not None:
        raise ValueError("the rows already have weights; give no other weights")
    return updates


def check_count(name: str, value: Any, minimum: int = 0) -> None:
    """Checks that a value is a whole number of at least `minimum`.

    Raises:
      ValueError: the value is no whole number, or too small.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(
            f"{name} must be a whole number of at least {minimum}, got {value!r}"
        )
