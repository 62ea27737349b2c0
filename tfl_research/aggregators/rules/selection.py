"""Rules that select whole rows by their distances to the other rows."""

from __future__ import annotations

from typing import Any, Optional

import tensorflow as tf

from tfl_research.aggregators.rules import distances
from tfl_research.aggregators.rules.columns import combine
from tfl_research.aggregators.rules.coordinatewise import around_lower_median
from tfl_research.aggregators.rules.rows import Rows, Updates, as_rows, check_count


def _scores(squared: tf.Tensor, candidates: tf.Tensor, byzantine: Any) -> tf.Tensor:
    """Computes Krum's score of every candidate; other rows have an infinite score.

    Args:
      squared: `[n, n]` squared distances.
      candidates: bool `[n]`.
      byzantine: int32 scalar, f.

    Returns:
      float64 `[n]`, roots of the scores, rounded so that equal scores are equal.
    """
    infinity = tf.constant(float("inf"), tf.float64)
    count = tf.reduce_sum(tf.cast(candidates, tf.int32))
    among = candidates[:, None] & candidates[None, :]
    others = tf.linalg.set_diag(among, tf.zeros_like(candidates))
    neighbours = tf.sort(tf.where(others, squared, infinity), axis=1)
    # A round that breaks the condition n >= 2f + 3 still has a defined result.
    wanted = tf.clip_by_value(count - byzantine - 2, 1, tf.maximum(count - 1, 1))
    wanted = tf.minimum(wanted, count - 1)
    near = tf.range(squared.shape[0])[None, :] < wanted
    total = tf.reduce_sum(tf.where(near, neighbours, 0.0), axis=1)
    return tf.where(candidates, distances.rounded(tf.sqrt(total)), infinity)


def _mean_of_best(rows: Rows, byzantine: int, select: Any) -> tf.Tensor:
    squared = distances.squared_distances(rows)
    scores = _scores(squared, rows.present, rows.remaining(byzantine))
    keys = distances.tie_keys(rows.values)
    chosen = (distances.ranks(scores, keys) < select) & rows.present
    chosen = tf.cast(chosen, tf.float64)
    return combine(tf.math.divide_no_nan(chosen, tf.reduce_sum(chosen)), rows.values)


def krum(
    updates: Updates, weights: Optional[Any] = None, *, byzantine: int
) -> tf.Tensor:
    """Selects the row that is closest to its n - f - 2 nearest neighbours.

    Blanchard et al. 2017 (NIPS, arXiv 1703.02757), section 4: the score of row i is
    the sum of the squared distances to the n - f - 2 other rows closest to it. The
    result is the row with the least score. Flower also uses n - f - 2 neighbours; ByzFL
    uses n - f - 1. Between rows with equal scores (to 24 bits) `distances.tie_keys`
    decides; other libraries take the first row. The paper's guarantee needs
    n >= 2f + 3.

    Args:
      updates: float32 `[n, d]`, or `Rows`.
      weights: float32 `[n]`; rows with weight 0 are ignored, others count the same.
      byzantine: f, rows that may be hostile.

    Returns:
      float32 `[d]`, one of the rows; zeros if no row counts.

    Raises:
      ValueError: byzantine below 0.
    """
    check_count("byzantine", byzantine)
    return _mean_of_best(as_rows(updates, weights), byzantine, 1)


def multi_krum(
    updates: Updates,
    weights: Optional[Any] = None,
    *,
    byzantine: int,
    select: Optional[int] = None,
) -> tf.Tensor:
    """Computes the mean of the m rows with the least Krum scores.

    Blanchard et al. 2017 (NIPS, arXiv 1703.02757), section 4, "Multi-Krum": scores are
    computed once. The paper leaves m open. By default m is n - f - 2, the largest value
    that Damaskinos et al. 2019 (AggregaThor) allow. ByzFL uses m = n - f (and
    n - f - 1 neighbours). Flower's caller gives m.

    Args:
      updates: float32 `[n, d]`, or `Rows`.
      weights: float32 `[n]`; rows with weight 0 are ignored, others count the same.
      byzantine: f, rows that may be hostile.
      select: m; if there are fewer rows, all rows are averaged.

    Returns:
      float32 `[d]`; zeros if no row counts.

    Raises:
      ValueError: byzantine below 0, or select below 1.
    """
    check_count("byzantine", byzantine)
    if select is not None:
        check_count("select", select, 1)
    rows = as_rows(updates, weights)
    default = tf.maximum(rows.count - rows.remaining(byzantine) - 2, 1)
    return _mean_of_best(rows, byzantine, default if select is None else select)


def bulyan(
    updates: Updates, weights: Optional[Any] = None, *, byzantine: int
) -> tf.Tensor:
    """Computes means around the median of rows that Krum selects one after another.

    El Mhamdi et al. 2018 (arXiv 1802.07927), section 4, with Krum. Krum selects a row
    and takes it out, θ = n - 2f times. Then each coordinate of the result is the mean
    of the β = θ - 2f values closest to the median of the selected rows. The median is a
    value of a selected row: for an even θ it is the lower middle value, where Flower
    takes the mean of both middle values.

    Krum on n' rows sums n' - f - 2 neighbours, at least 1. (The paper leaves open what
    to do when n' is small; Flower does the same.) When Krum sums a single neighbour,
    two rows that are each other's nearest neighbours have equal scores. Between equal
    scores `distances.tie_keys` decides. Of two values at the same distance the lower
    value is taken. The paper's guarantee needs n >= 4f + 3.

    Args:
      updates: float32 `[n, d]`, or `Rows`.
      weights: float32 `[n]`; rows with weight 0 are ignored, others count the same.
      byzantine: f, rows that may be hostile.

    Returns:
      float32 `[d]`; zeros if no row counts.

    Raises:
      ValueError: byzantine below 0.
    """
    check_count("byzantine", byzantine)
    rows = as_rows(updates, weights)
    squared = distances.squared_distances(rows)
    keys = distances.tie_keys(rows.values)
    hostile, count = rows.remaining(byzantine), rows.count
    selections = tf.maximum(count - 2 * hostile, tf.minimum(count, 1))

    def take_one(done: tf.Tensor, left: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        scores = _scores(squared, left, hostile)
        return done + 1, left & (distances.ranks(scores, keys) > 0)

    _, left = tf.while_loop(
        lambda done, _: done < selections, take_one, (tf.constant(0), rows.present)
    )
    selected = rows.present & tf.logical_not(left)
    size = tf.maximum(selections - 2 * hostile, tf.minimum(selections, 1))
    return around_lower_median(rows, selected, size)
