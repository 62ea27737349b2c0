"""Finds integers that float32, the type of models' inputs, cannot represent."""

from __future__ import annotations

import numpy as np

# float32 represents all integers up to the first number, float64 up to the second.
_SINGLE, _DOUBLE = 2**24, 2**53


def rounded_integers(numbers: np.ndarray) -> np.ndarray:
    """Finds integers that float32 would round; returns bool of the same shape.

    Such numbers are identifiers or times rather than measurements. Floats count only if
    all large floats are whole; above 2^53 they have been rounded already.

    Example:
      >>> import numpy as np
      >>> rounded_integers(np.array([5, 2**24 + 1])).tolist()
      [False, True]
      >>> rounded_integers(np.array([2.0**24 + 1, 2.0**24 + 1.5])).tolist()
      [False, False]
    """
    wrong = np.zeros(numbers.shape, bool)
    kind = numbers.dtype.kind
    if kind not in "iuf" or (kind == "f" and numbers.dtype.itemsize <= 4):
        return wrong
    large = (numbers > _SINGLE) | (numbers < -_SINGLE)
    if not large.any():
        return wrong
    values = numbers[large]
    if kind == "f":
        if not np.array_equal(values, np.floor(values)):
            return wrong
        with np.errstate(over="ignore"):
            rounded = values.astype(np.float32).astype(np.float64) != values
        wrong[large] = rounded & (np.abs(values) <= _DOUBLE)
        return wrong
    single = values.astype(np.float32).tolist()
    wrong[large] = [own != int(near) for own, near in zip(values.tolist(), single)]
    return wrong
