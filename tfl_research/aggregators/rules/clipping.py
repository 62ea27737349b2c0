"""Means of clipped rows, and means of rows weighed by a trusted update."""

from __future__ import annotations

from typing import Any, Optional

import tensorflow as tf

from tfl_research.aggregators.rules import distances
from tfl_research.aggregators.rules.columns import combine, sum_columns
from tfl_research.aggregators.rules.rows import Updates, as_rows, check_count


def _check_radius(radius: float) -> None:
    if not 0 < radius < float("inf"):
        raise ValueError(f"radius must be positive and finite, got {radius}")


def mean(updates: Updates, weights: Optional[Any] = None) -> tf.Tensor:
    """Computes the (weighted) mean of the finite rows; this is not a robust rule.

    Args:
      updates: float32 `[n, d]`, or `Rows`.
      weights: float32 `[n]`; rows with weight 0 are ignored.

    Returns:
      float32 `[d]`; zeros if no row counts.
    """
    rows = as_rows(updates, weights)
    return combine(rows.shares, rows.values)


def norm_clipping(
    updates: Updates, weights: Optional[Any] = None, *, radius: float
) -> tf.Tensor:
    """Computes the (weighted) mean of rows clipped to an l2 norm.

    Sun et al. 2019 (arXiv 1911.07963), "norm thresholding of updates": x_i times
    min(1, radius / ||x_i||).

    Args:
      updates: float32 `[n, d]`, or `Rows`.
      weights: float32 `[n]`; rows with weight 0 are ignored.
      radius: the largest norm, positive.

    Returns:
      float32 `[d]`; zeros if no row counts.

    Raises:
      ValueError: the radius is not positive and finite.
    """
    _check_radius(radius)
    rows = as_rows(updates, weights)
    origin = tf.zeros([int(rows.values.shape[1])], tf.float32)
    return combine(
        rows.shares * _clip_factors(rows.values, origin, radius), rows.values
    )


def _clip_factors(values: tf.Tensor, centre: tf.Tensor, radius: float) -> tf.Tensor:
    lengths = distances.lengths_from(values, centre)
    return tf.minimum(tf.math.divide_no_nan(tf.ones_like(lengths) * radius, lengths), 1)


def centered_clipping(
    updates: Updates,
    weights: Optional[Any] = None,
    *,
    center: Optional[Any] = None,
    radius: float,
    iterations: int = 1,
) -> tf.Tensor:
    """Moves a centre by the mean of the rows' clipped differences from the centre.

    Karimireddy et al. 2021 (arXiv 2012.10333), "centered clipping":
    v <- v + 1/n Σ (x_i - v) min(1, τ / ||x_i - v||), L times. The paper starts from
    the last round's result. `aggregators.StackingFactory` and ByzFL keep this result.
    The paper's guarantee holds for workers that send momenta, and for f <= n / 10.

    Args:
      updates: float32 `[n, d]`, or `Rows`.
      weights: float32 `[n]`; rows with weight 0 are ignored, others count the same.
      center: v_0, float32 `[d]`; zero by default.
      radius: τ, positive.
      iterations: L, at least 1.

    Returns:
      float32 `[d]`; the centre when no row counts.

    Raises:
      ValueError: the radius is not positive and finite, or iterations is below 1.
    """
    _check_radius(radius)
    check_count("iterations", iterations, 1)
    rows = as_rows(updates, weights)
    if center is None:
        center = tf.zeros([int(rows.values.shape[1])], tf.float32)
    moved = tf.convert_to_tensor(center, tf.float32)
    present = tf.cast(rows.present, tf.float64)
    shares = tf.math.divide_no_nan(present, tf.reduce_sum(present))
    for _ in range(iterations):
        pulls = shares * _clip_factors(rows.values, moved, radius)
        own = 1 - tf.reduce_sum(pulls)
        stacked = combine(pulls, rows.values)
        moved = tf.cast(own, tf.float32) * moved + stacked
    return moved


def trusted_root(
    updates: Updates, weights: Optional[Any] = None, *, root: Any
) -> tf.Tensor:
    """Computes the mean of rows, weighed by their cosine with a trusted update.

    FLTrust, Cao et al. 2021 (arXiv 2012.13995), section IV. The server trains on a
    small clean data set of its own, and gets the update g_0. Row i has the trust
    ReLU(cos(g_i, g_0)). Rows are scaled to g_0's norm and averaged by trust.

    Args:
      updates: float32 `[n, d]`, or `Rows`.
      weights: float32 `[n]`; rows with weight 0 are ignored, others count the same.
      root: g_0, float32 `[d]`, finite.

    Returns:
      float32 `[d]`; zeros when no row is trusted (the paper leaves this case open).
    """
    rows = as_rows(updates, weights)
    root = tf.convert_to_tensor(root, tf.float32)
    trust = trust_scores(rows, root=root)
    origin = tf.zeros_like(root)
    lengths = distances.lengths_from(rows.values, origin)
    own = distances.lengths_from(root[None, :], origin)[0]
    scaled = tf.math.divide_no_nan(trust * own, lengths)
    return combine(tf.math.divide_no_nan(scaled, tf.reduce_sum(trust)), rows.values)


def trust_scores(
    updates: Updates, weights: Optional[Any] = None, *, root: Any
) -> tf.Tensor:
    """Computes FLTrust's trust in every row: ReLU(cos(g_i, g_0)), see `trusted_root`.

    Args:
      updates: float32 `[n, d]`, or `Rows`.
      weights: float32 `[n]`; rows with weight 0 are ignored, others count the same.
      root: g_0, float32 `[d]`, finite.

    Returns:
      float64 `[n]` in [0, 1]; 0 for absent rows and rows of zeros. If the root is zero,
      all trusts are 0.
    """
    rows = as_rows(updates, weights)
    root = tf.convert_to_tensor(root, tf.float32)
    inner = sum_columns(
        lambda block, own: tf.reduce_sum(block * own, axis=1),
        [int(rows.values.shape[0])],
        rows.values,
        root[None, :],
    )
    origin = tf.zeros_like(root)
    lengths = distances.lengths_from(rows.values, origin)
    own = distances.lengths_from(root[None, :], origin)[0]
    return tf.maximum(tf.math.divide_no_nan(inner, lengths * own), 0.0)
