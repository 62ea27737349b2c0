"""Finds numbers that would change silently when they become floats."""

from __future__ import annotations

import numpy as np

# float32 represents all integers up to the first number, float64 up to the second.
_SINGLE, _DOUBLE = 2**24, 2**53


def rounded_integers(numbers: np.ndarray) -> np.ndarray:
    """Finds integers that float32 would round; returns bool of the same shape.

    Such numbers are identifiers or times rather than measurements. Floats count only if
    all large floats of their column are whole; above 2^53 they have been rounded
    already. A column is a place on the last axis of an array with several axes.

    Example:
      >>> import numpy as np
      >>> rounded_integers(np.array([5, 2**24 + 1])).tolist()
      [False, True]
      >>> rounded_integers(np.array([2.0**24 + 1, 2.0**24 + 1.5])).tolist()
      [False, False]
      >>> rounded_integers(np.array([[2.0**24 + 1, 2.0**24 + 1.5]])).tolist()
      [[True, False]]
    """
    kind = numbers.dtype.kind
    if kind not in "iuf" or (kind == "f" and numbers.dtype.itemsize <= 4):
        return np.zeros(numbers.shape, bool)
    large = (numbers > _SINGLE) | (numbers < -_SINGLE)
    if not large.any():
        return np.zeros(numbers.shape, bool)
    if kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            changed = numbers.astype(np.float32).astype(numbers.dtype) != numbers
            whole = ~large | (numbers == np.floor(numbers))
        whole = whole.all(axis=_column_axes(numbers))
        return large & whole & changed & (np.abs(numbers) <= _DOUBLE)
    wrong = np.zeros(numbers.shape, bool)
    values = numbers[large]
    single = values.astype(np.float32).tolist()
    wrong[large] = [own != int(near) for own, near in zip(values.tolist(), single)]
    return wrong


def rounded_in_double(numbers: np.ndarray) -> np.ndarray:
    """Finds integers that float64 would round; returns bool of the same shape.

    NumPy makes floats of integers if it joins them with floats.

    Args:
      numbers: an array of integers, or of objects; objects that are no integers do not
        count.

    Example:
      >>> import numpy as np
      >>> rounded_in_double(np.array([2**53 + 1, 0.5], object)).tolist()
      [True, False]
    """
    wrong = np.zeros(numbers.shape, bool)
    if numbers.dtype.kind in "iu":
        large = (numbers > _DOUBLE) | (numbers < -_DOUBLE)
        wrong[large] = [v != int(float(v)) for v in numbers[large].tolist()]
    elif numbers.dtype.hasobject:
        wrong.reshape(-1)[:] = [_changes(each) for each in numbers.reshape(-1)]
    return wrong


def _changes(number: object) -> bool:
    """Whether an object is an integer that float64 would round."""
    if not isinstance(number, (int, np.integer)):
        return False
    try:
        return int(float(number)) != int(number)
    except OverflowError:
        return True


def vanished(numbers: np.ndarray, single: np.ndarray) -> np.ndarray:
    """Finds numbers of columns that float32 makes 0 completely.

    Args:
      numbers: floats.
      single: the same numbers in float32.

    Returns:
      bool of the same shape, true for each number that is not 0 of such a column. A
      column is a place on the last axis of an array with several axes.

    Example:
      >>> import numpy as np
      >>> numbers = np.array([[1e-60, 1e-60], [2.0, 0.0]])
      >>> vanished(numbers, numbers.astype(np.float32)).tolist()
      [[False, True], [False, False]]
    """
    if numbers.dtype.itemsize <= 4:
        return np.zeros(numbers.shape, bool)
    gone = (single == 0).all(axis=_column_axes(numbers))
    return gone & (numbers != 0)


def _column_axes(numbers: np.ndarray) -> tuple[int, ...]:
    """Returns the axes along which the numbers of a column lie."""
    return tuple(range(max(1, numbers.ndim - 1)))
