"""Sequences of different lengths, padded to one length."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Optional, Union

import numpy as np

from tfl_research.data.arrays import structures
from tfl_research.data.arrays.raw_arrays import check_joined

LONGEST = "longest"
# Ways to treat a sequence that is longer than the length.
LONGER = ("refuse", "cut")


@dataclasses.dataclass(frozen=True)
class Sequences:
    """How rows of different lengths are padded to one length.

    Attributes:
      length: the length of every row, at least 1; or "longest", the longest row of all
        clients. "longest" is a fact about all clients, which a task declares
        (`Task.pooled`) and a private run refuses.
      pad: the value that fills a shorter row at its end: a token's number, a float, or
        text. The rows themselves must not have the pad if it is an integer or text,
        since it could not be distinguished from padding. If no row has an element, the
        pad's type is the array's type.
      longer: for a row above the length, "refuse" raises an error and "cut" keeps the
        first elements.

    Raises:
      ValueError: the length is below 1, the pad is not finite, or `longer` is another
        word.

    Example:
      >>> from tfl_research import tasks
      >>> tasks.Sequences(80)
      Sequences(length=80, pad=0, longer='refuse')
    """

    length: Union[int, str]
    pad: Union[int, float, str] = 0
    longer: str = "refuse"

    def __post_init__(self) -> None:
        is_number = _is_a(self.length, numbers.Integral)
        if self.length != LONGEST and not (is_number and int(self.length) >= 1):
            raise ValueError(
                f"length must be a whole number of at least 1 or {LONGEST!r}, got "
                f"{self.length!r}"
            )
        if self.longer not in LONGER:
            raise ValueError(
                f"longer must be {' or '.join(LONGER)}, got {self.longer!r}"
            )
        if not isinstance(self.pad, str) and not _is_a(self.pad, numbers.Real):
            raise ValueError(f"pad must be a number or text, got {self.pad!r}")
        if not isinstance(self.pad, str) and not math.isfinite(self.pad):
            raise ValueError(f"pad must be finite, got {self.pad}")

    def padded(
        self,
        where: str,
        rows: Sequence[np.ndarray],
        name_row: Optional[Callable[[int], str]] = None,
    ) -> np.ndarray:
        """Pads rows; returns an array `[n, length, ...]`.

        Args:
          where: names the client and the array in an error.
          rows: arrays `[steps, ...]` of the same trailing shape; text as bytes in
            arrays of objects.
          name_row: names a row in an error; by default by its number.

        Raises:
          ValueError: a row is too long and not cut, a row has the pad, or rows differ
            in their trailing shape or mix text and numbers; the message names the row.
        """
        if not isinstance(self.length, (int, np.integer)):
            raise ValueError(
                f"{where}: length={self.length!r} must be replaced by a number before "
                "rows are padded"
            )
        length = int(self.length)
        at = name_row or (lambda number: f"{where}, row {number}")
        pad, dtype = self._pad_and_dtype(where, rows, at)
        check_joined(rows, at)
        inner = next((row.shape[1:] for row in rows if row.size), ())
        result = np.full((len(rows), length, *inner), pad, dtype)
        for number, row in enumerate(rows):
            if len(row) > length and self.longer == "refuse":
                raise ValueError(
                    f"{at(number)}: {len(row)} elements, above the declared "
                    f"length of {length}; give a greater length, or longer='cut'"
                )
            if row.size and row.shape[1:] != inner:
                raise ValueError(
                    f"{at(number)}: elements of shape {row.shape[1:]}, "
                    f"expected {inner} as in the other rows"
                )
            kept = row[:length]
            if dtype.kind != "f" and kept.size and np.any(kept == pad):
                raise ValueError(
                    f"{at(number)}: holds {self.pad!r}, which is the padding; give "
                    "Sequences(pad=...) a value that does not occur in the rows"
                )
            if kept.size:
                result[number, : len(kept)] = kept
        return result

    def fill(self, dtype: np.dtype) -> Union[int, float, str, bytes]:
        """Returns the padding of rows of a type; rows of objects hold text."""
        if dtype.hasobject:
            return self.pad.encode() if isinstance(self.pad, str) else b""
        return self.pad

    def _pad_and_dtype(
        self, where: str, rows: Sequence[np.ndarray], at: Callable[[int], str]
    ) -> tuple[Union[int, float, str, bytes], np.dtype]:
        # A row of objects without an element may be of any type.
        filled = [row for row in rows if row.size or row.dtype != object]
        text = [structures.is_text(row.dtype) for row in filled]
        if any(text):
            if not all(text):
                number = next(
                    i
                    for i, row in enumerate(rows)
                    if row.size and not structures.is_text(row.dtype)
                )
                raise ValueError(
                    f"{at(number)}: holds numbers, but other rows hold text; give "
                    "rows of one kind"
                )
            pad = self.pad if isinstance(self.pad, str) else ""
            return pad.encode(), np.dtype(object)
        if isinstance(self.pad, str):
            if filled:
                raise ValueError(
                    f"{where}: pad={self.pad!r} is text, but the rows hold numbers; "
                    "give a number"
                )
            return self.pad.encode(), np.dtype(object)
        kinds = {row.dtype for row in filled} or {np.asarray(self.pad).dtype}
        dtype = np.result_type(*kinds)
        if dtype.kind != "f" and float(self.pad) != int(self.pad):
            raise ValueError(
                f"{where}: pad={self.pad} is not a whole number, but the rows hold "
                "whole numbers; give a whole number"
            )
        if dtype.kind == "f":
            return self.pad, dtype
        low, high = 0, 1
        if dtype.kind in "iu":
            low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        if not low <= self.pad <= high:
            raise ValueError(
                f"{where}: pad={self.pad} does not fit into the rows' {dtype}, {low} "
                f"to {high}; give another pad or a wider type"
            )
        return int(self.pad), dtype


def _is_a(value: object, kind: type) -> bool:
    """Whether a value is a number of a kind, and no truth value."""
    return isinstance(value, kind) and not isinstance(value, (bool, np.bool_))


def by_array(
    sequences: Union[Sequences, Mapping[str, Sequences], None], names: Sequence[str]
) -> dict[str, Sequences]:
    """Returns the sequences by flat name of array.

    Args:
      sequences: a `Sequences` for the arrays `names`, or a mapping by flat name.
      names: the flat names of arrays that a single `Sequences` applies to.

    Raises:
      ValueError: `sequences` has another type, or a name that no array can have.
    """
    if sequences is None:
        return {}
    if isinstance(sequences, Sequences):
        return dict.fromkeys(names, sequences)
    if not isinstance(sequences, Mapping) or not all(
        isinstance(each, Sequences) for each in sequences.values()
    ):
        raise ValueError(
            "sequences must be Sequences(...), or a dict of them by the arrays' "
            f"names, got {sequences!r}"
        )
    for name in sequences:
        if structures.of(name) not in ("x", "y"):
            raise ValueError(
                f"sequences: {name!r} is not an array of inputs or labels; expected "
                "x, y, x/NAME or y/NAME"
            )
    return dict(sequences)
