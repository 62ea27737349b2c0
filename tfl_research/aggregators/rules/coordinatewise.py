"""Rules that aggregate every coordinate independently of the other coordinates."""

from __future__ import annotations

from typing import Any, Optional, Union

import tensorflow as tf

from tfl_research.aggregators.rules.columns import map_columns, sort_columns
from tfl_research.aggregators.rules.rows import Rows, Updates, as_rows, check_count

# A product of a ratio and a count this close below a whole number counts as the whole
# number: f/n times n is f, also in floating point.
_RATIO_SLACK = 1e-6


def _sorted(block: tf.Tensor, present: tf.Tensor, width: int) -> tf.Tensor:
    """Sorts columns in ascending order; absent rows are infinities at the end."""
    infinity = tf.constant(float("inf"), tf.float32)
    return sort_columns(tf.where(present[:, None], block, infinity), width)


def _row(ordered: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Returns the row at a position; zeros if the position is outside or empty."""
    row = tf.gather(ordered, tf.clip_by_value(position, 0, ordered.shape[0] - 1))
    return tf.where(tf.math.is_finite(row), row, tf.zeros_like(row))


def _mean_of(ordered: tf.Tensor, begin: Any, size: Any) -> tf.Tensor:
    """Averages `size` rows from `begin`; both are scalars or have an entry a column."""
    positions = tf.range(ordered.shape[0])[:, None]
    kept = (positions >= begin) & (positions < begin + size)
    # In float64 the result does not depend on the order of the sum, or on padding.
    exact = tf.where(kept, tf.cast(ordered, tf.float64), 0.0)
    total = tf.reduce_sum(exact, axis=0)
    return tf.cast(tf.math.divide_no_nan(total, tf.cast(size, tf.float64)), tf.float32)


def _weights_in_order(
    block: tf.Tensor, rows: Rows
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Sorts columns, and cumulates the rows' shares of the weight in that order.

    Returns:
      (values float32 `[n, b]`, absent rows last and 0; float64 `[n, b]` sum of the
      shares before each value, and up to it).
    """
    infinity = tf.constant(float("inf"), tf.float32)
    masked = tf.where(rows.present[:, None], block, infinity)
    order = tf.transpose(tf.argsort(tf.transpose(masked), axis=1, stable=True))
    shares = tf.gather(rows.shares, order)
    up_to = tf.cumsum(shares, axis=0)
    values = tf.transpose(
        tf.gather(tf.transpose(masked), tf.transpose(order), batch_dims=1)
    )
    values = tf.where(tf.math.is_finite(values), values, tf.zeros_like(values))
    return values, up_to - shares, up_to


def coordinate_median(updates: Updates, weights: Optional[Any] = None) -> tf.Tensor:
    """Computes the median of every coordinate.

    Yin et al. 2018 (arXiv 1803.01498), Definition 1. For an even number of rows it is
    the mean of the two middle values, as in NumPy, Flower and ByzFL; PyTorch's median
    is the lower middle value.

    With weights it is the weighted median: the smallest value such that values up to
    this value have at least half of the weight. If exactly half of the weight lies up
    to this value, the median is the mean of this value and the next. Equal weights give
    the plain median.

    Args:
      updates: float32 `[n, d]`, or `Rows`.
      weights: float32 `[n]`; rows with weight 0 are ignored.

    Returns:
      float32 `[d]`; zeros if no row counts.
    """
    rows = as_rows(updates, weights)
    width = int(rows.values.shape[1])
    present, count = rows.present, rows.count

    def middle(block: tf.Tensor) -> tf.Tensor:
        ordered = _sorted(block, present, width)
        lower, upper = _row(ordered, (count - 1) // 2), _row(ordered, count // 2)
        # Values are halved before the addition, so that large values do not overflow.
        return tf.where(count > 0, 0.5 * lower + 0.5 * upper, 0.0)

    def weighted_middle(block: tf.Tensor) -> tf.Tensor:
        values, _, up_to = _weights_in_order(block, rows)
        # Shares are rounded, so comparisons have a tolerance.
        reaches = tf.argmax(tf.cast(up_to >= 0.5 - 1e-12, tf.int32), axis=0)
        passes = tf.argmax(tf.cast(up_to > 0.5 + 1e-12, tf.int32), axis=0)
        return 0.5 * _at(values, reaches) + 0.5 * _at(values, passes)

    return map_columns(weighted_middle if rows.weighted else middle, rows.values)


def _at(values: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    return tf.gather(tf.transpose(values), positions[:, None], batch_dims=1)[:, 0]


def trimmed_mean(
    updates: Updates, weights: Optional[Any] = None, *, trim: Union[int, float]
) -> tf.Tensor:
    """Computes the mean of every coordinate without its b largest and smallest values.

    Yin et al. 2018 (arXiv 1803.01498), Definition 2, where b = βn. An integer `trim` is
    b, as in ByzFL. A float `trim` is the ratio β. Flower and SciPy use int(βn), which
    for β = f/n can be f - 1 (f = 15, n = 44). Here b is the whole part of βn, and a βn
    within 1e-6 below a whole number counts as this number. n also counts excluded rows,
    and each excluded row is one of the b rows on either side.

    With weights, a share β = b/n of the weight is taken off at either end. Of the value
    at the cut, only a part of its weight is taken off. Equal weights and a whole b give
    the plain trimmed mean.

    Args:
      updates: float32 `[n, d]`, or `Rows`.
      weights: float32 `[n]`; rows with weight 0 are ignored.
      trim: number of values to leave out at either end, or a share below 0.5.

    Returns:
      float32 `[d]`; zeros if no row counts. If 2b would leave no value, b is the
      largest number that leaves one or two values.

    Raises:
      ValueError: a count is below 0, or a ratio is outside of [0, 0.5).
    """
    if isinstance(trim, float):
        if not 0 <= trim < 0.5:
            raise ValueError(f"a trim ratio must be in [0, 0.5), got {trim}")
    else:
        check_count("trim", trim)
    rows = as_rows(updates, weights)
    width = int(rows.values.shape[1])
    present, count = rows.present, rows.count
    if isinstance(trim, float):
        off = trim * tf.cast(rows.offered, tf.float64) + _RATIO_SLACK
    else:
        off = tf.constant(float(trim), tf.float64)
    off = tf.maximum(off - tf.cast(rows.excluded, tf.float64), 0.0)
    most = tf.cast(tf.maximum(count - 1, 0), tf.float64) / 2
    trimmed_rows = tf.cast(tf.floor(tf.minimum(off, tf.floor(most))), tf.int32)

    def trimmed(block: tf.Tensor) -> tf.Tensor:
        return _mean_of(
            _sorted(block, present, width), trimmed_rows, count - 2 * trimmed_rows
        )

    def weighted_trimmed(block: tf.Tensor) -> tf.Tensor:
        values, before, up_to = _weights_in_order(block, rows)
        low = tf.math.divide_no_nan(
            tf.minimum(off, most), tf.cast(tf.maximum(count, 1), tf.float64)
        )
        kept = tf.clip_by_value(up_to, low, 1 - low)
        kept -= tf.clip_by_value(before, low, 1 - low)
        total = tf.reduce_sum(kept * tf.cast(values, tf.float64), axis=0)
        return tf.cast(
            tf.math.divide_no_nan(total, tf.reduce_sum(kept, axis=0)), tf.float32
        )

    return map_columns(weighted_trimmed if rows.weighted else trimmed, rows.values)


def mean_of_closest(
    ordered: tf.Tensor, count: tf.Tensor, size: tf.Tensor, centre: tf.Tensor
) -> tf.Tensor:
    """Averages, in each column, the `size` values closest to a centre.

    These values are neighbours in the sorted column. A window over them moves up as
    long as the value that enters is closer than the value that leaves. Of two values at
    the same distance the lower value is taken.

    Args:
      ordered: `[n, b]`, ascending, the first `count` rows finite.
      count, size: int32 scalars, size at most count.
      centre: `[b]`.
    """
    entering = tf.gather(
        ordered,
        tf.minimum(tf.range(ordered.shape[0]) + size, ordered.shape[0] - 1),
    )
    positions = tf.range(ordered.shape[0])[:, None]
    moves = (positions + size < count) & (centre - ordered > entering - centre)
    begin = tf.reduce_sum(tf.cast(moves, tf.int32), axis=0)
    return _mean_of(ordered, begin[None, :], size)


def mean_around_median(
    updates: Updates, weights: Optional[Any] = None, *, byzantine: int
) -> tf.Tensor:
    """Computes the mean, in every coordinate, of the n - f values near the median.

    Xie et al. 2018 (arXiv 1802.10116), "mean around median", with b = f; ByzFL's
    Meamed is the same. The median of an even number of rows is the mean of the two
    middle values. Of two values at the same distance the lower value is taken.

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
    width = int(rows.values.shape[1])
    present, count = rows.present, rows.count
    size = tf.maximum(count - rows.remaining(byzantine), tf.minimum(count, 1))

    def around(block: tf.Tensor) -> tf.Tensor:
        ordered = _sorted(block, present, width)
        lower, upper = _row(ordered, (count - 1) // 2), _row(ordered, count // 2)
        return mean_of_closest(ordered, count, size, 0.5 * lower + 0.5 * upper)

    return map_columns(around, rows.values)


def around_lower_median(rows: Rows, selected: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Computes Bulyan's second half: means around the lower median of some rows.

    Args:
      rows: the stacked rows.
      selected: bool `[n]`, the rows that are used.
      size: int32 scalar, number of values of each coordinate to average.
    """
    width = int(rows.values.shape[1])
    count = tf.reduce_sum(tf.cast(selected, tf.int32))

    def around(block: tf.Tensor) -> tf.Tensor:
        ordered = _sorted(block, selected, width)
        return mean_of_closest(ordered, count, size, _row(ordered, (count - 1) // 2))

    return map_columns(around, rows.values)


def sign_majority(updates: Updates, weights: Optional[Any] = None) -> tf.Tensor:
    """Computes the majority of the signs in every coordinate: -1, 0 or 1.

    Bernstein et al. 2018 (arXiv 1810.05291), Algorithm 1: the sign of the sum of the
    signs. A zero abstains; a tie is 0. With weights, a row has as many votes as its
    weight. The result has no magnitude: the server's learning rate makes the step.

    Args:
      updates: float32 `[n, d]`, or `Rows`.
      weights: float32 `[n]`; rows with weight 0 are ignored.

    Returns:
      float32 `[d]`.
    """
    rows = as_rows(updates, weights)
    votes = rows.weights if rows.weighted else tf.cast(rows.present, tf.float32)
    exact = tf.cast(votes, tf.float64)[:, None]

    def vote(block: tf.Tensor) -> tf.Tensor:
        signs = tf.cast(tf.sign(block), tf.float64)
        return tf.cast(tf.sign(tf.reduce_sum(exact * signs, axis=0)), tf.float32)

    return map_columns(vote, rows.values)
