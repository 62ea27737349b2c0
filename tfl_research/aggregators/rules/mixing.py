"""Pre-aggregations, which make rows more similar before a rule is applied."""

from __future__ import annotations

from typing import Any, Optional

import tensorflow as tf

from tfl_research import stateless_random
from tfl_research.aggregators.rules import distances
from tfl_research.aggregators.rules.columns import combine
from tfl_research.aggregators.rules.rows import Rows, Updates, as_rows, check_count


def nearest_neighbour_mixing(
    updates: Updates, weights: Optional[Any] = None, *, byzantine: int
) -> Rows:
    """Replaces every row by the mean of the n - f rows closest to it, itself included.

    This is NNM, Allouah et al. 2023 (arXiv 2302.01772). ByzFL does the same. Between
    rows at the same distance (to 24 bits), `distances.tie_keys` decides.

    Args:
      updates: float32 `[n, d]`, or `Rows`.
      weights: float32 `[n]`; rows with weight 0 are ignored, others count the same.
      byzantine: f, rows that may be hostile.

    Returns:
      `Rows` of the same shape, unweighted; with the same count of excluded rows.

    Raises:
      ValueError: byzantine below 0.
    """
    check_count("byzantine", byzantine)
    rows = as_rows(updates, weights)
    squared = distances.squared_distances(rows)
    size = tf.maximum(rows.count - rows.remaining(byzantine), 1)
    near = distances.ranks(squared, distances.tie_keys(rows.values)) < size
    near &= rows.present[:, None] & rows.present[None, :]
    kept = tf.cast(near, tf.float64)
    mixing = tf.math.divide_no_nan(kept, tf.reduce_sum(kept, axis=1, keepdims=True))
    return Rows(
        combine(mixing, rows.values),
        tf.cast(rows.present, tf.float32),
        rows.excluded,
        rows.offered,
    )


def bucketing(
    updates: Updates,
    weights: Optional[Any] = None,
    *,
    bucket_size: int,
    seed: Any,
) -> Rows:
    """Averages random buckets of rows.

    Karimireddy et al. 2022 (arXiv 2006.09365), Algorithm 1: rows are permuted at
    random and divided into ceil(n / s) buckets of s rows (the last bucket may be
    smaller). Each bucket is replaced by its mean. A hostile row affects only one
    bucket, so f does not change, but n decreases.

    Args:
      updates: float32 `[n, d]`, or `Rows`.
      weights: float32 `[n]`; rows with weight 0 are ignored, others count the same.
      bucket_size: s, at least 1.
      seed: int32 or int64 `[2]`, seed of the permutation; new for every round.

    Returns:
      `Rows` of `[ceil(n / s), d]`, unweighted; with the same count of excluded rows.

    Raises:
      ValueError: bucket_size below 1.
    """
    check_count("bucket_size", bucket_size, 1)
    rows = as_rows(updates, weights)
    capacity = int(rows.values.shape[0])
    keys = stateless_random.uniform([capacity], seed)
    keys = tf.where(rows.present, keys, 2.0)
    order = tf.argsort(tf.argsort(keys, stable=True), stable=True)
    buckets = order // bucket_size
    num_buckets = -(-capacity // bucket_size)
    members = tf.equal(tf.range(num_buckets)[:, None], buckets[None, :])
    members = tf.cast(members & rows.present[None, :], tf.float64)
    sizes = tf.reduce_sum(members, axis=1)
    return Rows(
        combine(tf.math.divide_no_nan(members, sizes[:, None]), rows.values),
        tf.cast(sizes > 0, tf.float32),
        rows.excluded,
        rows.offered,
    )
