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
    """The vector of least (weighted) sum of distances to the rows.

    The smoothed Weiszfeld algorithm of Pillutla et al. 2022 (RFA, arXiv 1912.13445),
    Algorithm 2: v <- Σ β_i x_i / Σ β_i with β_i = α_i / max(ν, ||v - x_i||), until the
    coefficients stand still. The paper stops after a few iterations and ByzFL after
    3, neither of them converged.

    Every iterate is a combination of the rows, so that distances follow from the
    rows' inner products: an iteration costs n², whatever d is.

    Args:
      updates: float32 `[n, d]`, or `Rows`.
      weights: α, float32 `[n]`; rows of weight 0 are absent.
      smoothing: ν, positive, in the updates' unit.
      tolerance: ends the iterations once no coefficient (of sum 1) moves further.
      iterations: how many at most.

    Returns:
      float32 `[d]`; zeros when no row counts.

    Raises:
      ValueError: smoothing that is not positive, iterations below 1.
    """
    if not smoothing > 0:
        raise ValueError(f"smoothing must be positive, got {smoothing}")
    check_count("iterations", iterations, 1)
    rows = as_rows(updates, weights)
    shares = rows.shares
    radii, cosines = _around_medoid(rows)
    # Rows at unit length around the medoid, so that one of a huge norm cannot swamp
    # the others' distances: in the sums it comes with a coefficient as small.
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

    # At the medoid itself all of the pull would be its own row's.
    start = normalised(tf.maximum(radii, typical))
    _, coefficients, _ = tf.while_loop(
        lambda done, _, change: (done < iterations) & (change > tolerance),
        step,
        (tf.constant(0), start, tf.constant(1.0, tf.float64)),
    )
    return combine(coefficients, rows.values)


def _around_medoid(rows: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Distances of the rows from the medoid, and the cosines between them from there.

    The medoid is the row of least weighted sum of distances to the others: within a
    factor of two of the geometric median's, and so never a row far away.
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
