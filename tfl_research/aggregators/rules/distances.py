"""Computes distances between rows, rounded to the precision of float32."""

from __future__ import annotations

import tensorflow as tf

from tfl_research.aggregators.rules.columns import sum_columns
from tfl_research.aggregators.rules.rows import Rows

# A squared distance below this share of the rows' squared norms counts as 0: equal
# rows have such a distance, because their inner products are rounded.
_SAME = 1e-13
# Keeps lengths of float32 rows, up to 1e42, within float32; a power of two.
_SCALE = 2.0**-20
_GOLDEN = 0.6180339887498949


def gram(values: tf.Tensor) -> tf.Tensor:
    """Computes the inner products of the rows, float64 `[n, n]`, summed in float64.

    Products of float32 numbers are exact in float64 and cannot overflow. So a row of
    any magnitude does not disturb the distances between the other rows.
    """
    rows = int(values.shape[0])
    return sum_columns(
        lambda block: tf.matmul(block, block, transpose_b=True), [rows, rows], values
    )


def rounded(lengths: tf.Tensor) -> tf.Tensor:
    """Rounds float64 lengths to the 24 bits of float32.

    Lengths that are equal in exact arithmetic become equal numbers. So ties do not
    depend on the order of a sum. Infinities do not change.
    """
    return tf.cast(tf.cast(lengths * _SCALE, tf.float32), tf.float64) / _SCALE


def squared_distances(rows: Rows) -> tf.Tensor:
    """Computes squared distances, float64 `[n, n]`; 0 between equal rows.

    Distances (not squared) are rounded to 24 bits. Rows closer than 3e-7 of their norm
    count as equal, since float32 rows are not more precise. The distance is infinite if
    one of the two rows is absent.
    """
    products = gram(rows.values)
    norms = tf.linalg.diag_part(products)
    norm_sums = norms[:, None] + norms[None, :]
    squared = norm_sums - 2 * products
    squared = tf.where(squared > _SAME * norm_sums, squared, 0.0)
    squared = tf.linalg.set_diag(squared, tf.zeros_like(norms))
    counts = rows.present[:, None] & rows.present[None, :]
    return tf.where(counts, tf.square(rounded(tf.sqrt(squared))), float("inf"))


def lengths_from(values: tf.Tensor, centre: tf.Tensor) -> tf.Tensor:
    """Computes the distance of each row from a vector `[d]`, float64 `[n]`."""
    squared = sum_columns(
        lambda block, middle: tf.reduce_sum(tf.square(block - middle), axis=1),
        [int(values.shape[0])],
        values,
        centre[None, :],
    )
    return tf.sqrt(squared)


def tie_keys(values: tf.Tensor) -> tf.Tensor:
    """Computes keys that break ties between rows of equal scores, float64 `[n]`.

    Of rows with equal scores, the row with the smallest key comes first.

    A key is the inner product of a row with a fixed vector, whose entries are the
    fractional parts of the golden ratio's multiples, minus 0.5. Except by coincidence,
    two different rows have different keys. The order by keys depends neither on the
    rows' places in the stack, which differ between runtimes, nor on the updates' origin
    and scale.
    """
    width = int(values.shape[1])
    steps = tf.range(1, width + 1, dtype=tf.float64) * _GOLDEN
    pattern = (steps - tf.floor(steps) - 0.5)[None, :]
    return sum_columns(
        lambda block, part: tf.reduce_sum(block * part, axis=1),
        [int(values.shape[0])],
        values,
        pattern,
    )


def ranks(scores: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """Ranks scores in ascending order along the last axis.

    Args:
      scores: `[n]` or `[m, n]`.
      keys: `[n]`, break ties between equal scores; the place breaks ties of keys.

    Returns:
      The ranks, int32, shaped like `scores`.
    """
    by_key = tf.argsort(keys, stable=True)
    places = tf.argsort(by_key, stable=True)
    order = tf.argsort(tf.gather(scores, by_key, axis=-1), axis=-1, stable=True)
    sorted_ranks = tf.argsort(order, axis=-1, stable=True)
    return tf.gather(sorted_ranks, places, axis=-1)
