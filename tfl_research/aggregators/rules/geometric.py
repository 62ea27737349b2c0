"""The geometric median."""

from __future__ import annotations

from typing import Any, Optional

import tensorflow as tf

from tfl_research.aggregators.rules import distances
from tfl_research.aggregators.rules.columns import combine
from tfl_research.aggregators.rules.rows import Updates, as_rows, check_count


def geometric_median(
    updates: Updates,
    weights: Optional[Any] = None,
    *,
    smoothing: float = 1e-6,
    tolerance: float = 1e-12,
    iterations: int = 1000,
) -> tf.Tensor:
    """Computes the vector with the least (weighted) sum of distances to the rows.

    This is the smoothed Weiszfeld algorithm of Pillutla et al. 2022 (RFA, arXiv
    1912.13445), Algorithm 2: v <- Σ β_i x_i / Σ β_i with
    β_i = α_i / max(ν, ||v - x_i||), until the coefficients do not change. The paper
    stops after a few iterations and ByzFL after 3, before convergence.

    Every iterate is a linear combination of the rows, so distances follow from the
    rows' inner products. An iteration costs n² operations, whatever d is.

    Args:
      updates: float32 `[n, d]`, or `Rows`.
      weights: α, float32 `[n]`; rows with weight 0 are ignored.
      smoothing: ν, positive, in the updates' unit.
      tolerance: the iterations end when no coefficient changes by more than this. The
        sum of the coefficients is 1.
      iterations: largest number of iterations.

    Returns:
      float32 `[d]`; zeros if no row counts.

    Raises:
      ValueError: smoothing is not positive, or iterations is below 1.
    """
    if not smoothing > 0:
        raise ValueError(f"smoothing must be positive, got {smoothing}")
    check_count("iterations", iterations, 1)
    rows = as_rows(updates, weights)
    shares = rows.shares
    radii, cosines = _around_medoid(rows)
    # Distances are computed around the medoid from unit vectors, so that a row with a
    # huge norm does not disturb the other distances: its coefficient is equally small.
    typical = _middle(radii, rows.present)

    def normalised(distance: tf.Tensor) -> tf.Tensor:
        pull = shares / tf.maximum(distance, smoothing)
        return tf.math.divide_no_nan(pull, tf.reduce_sum(pull))

    def step(done: tf.Tensor, coefficients: tf.Tensor, _: tf.Tensor) -> Any:
        reach = coefficients * radii
        shadow = tf.linalg.matvec(cosines, reach)
        squared = tf.square(radii) - 2 * radii * shadow
        squared += tf.reduce_sum(reach * shadow)
        moved = normalised(tf.sqrt(tf.maximum(squared, 0.0)))
        return done + 1, moved, tf.reduce_max(tf.abs(moved - coefficients))

    # A start exactly at the medoid would give the medoid's row all of the weight.
    start = normalised(tf.maximum(radii, typical))
    _, coefficients, _ = tf.while_loop(
        lambda done, _, change: (done < iterations) & (change > tolerance),
        step,
        (tf.constant(0), start, tf.constant(1.0, tf.float64)),
    )
    return combine(coefficients, rows.values)


def _around_medoid(rows: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes the rows' distances from the medoid, and the differences' cosines.

    The medoid is the row with the least weighted sum of distances to the other rows.
    This sum is at most twice the sum of the geometric median, so the medoid is never a
    distant row.
    """
    products = distances.gram(rows.values)
    norms = tf.linalg.diag_part(products)
    norm_sums = norms[:, None] + norms[None, :]
    lengths = tf.sqrt(tf.maximum(norm_sums - 2 * products, 0.0))
    sums = tf.linalg.matvec(lengths, rows.shares)
    sums = tf.where(rows.present, sums, float("inf"))
    medoid = tf.argmin(sums)
    to_medoid = products[medoid]
    squared = norms - 2 * to_medoid + norms[medoid]
    apart = squared > 1e-13 * (norms + norms[medoid])
    radii = tf.sqrt(tf.where(apart, squared, 0.0))
    inner = products - to_medoid[:, None] - to_medoid[None, :] + norms[medoid]
    lengths = radii[:, None] * radii[None, :]
    cosines = tf.clip_by_value(tf.math.divide_no_nan(inner, lengths), -1.0, 1.0)
    cosines = tf.linalg.set_diag(cosines, tf.ones_like(radii))
    return radii, cosines


def _middle(values: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    ordered = tf.sort(tf.where(present, values, float("inf")))
    count = tf.reduce_sum(tf.cast(present, tf.int32))
    middle = ordered[count // 2]
    return tf.where(tf.math.is_finite(middle), middle, 0.0)
