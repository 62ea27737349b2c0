"""Converts a user's value for an array to NumPy: numbers, bytes, or rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any, Optional

import numpy as np

from tfl_research.data.arrays.exactness import rounded_in_double
from tfl_research.errors import quoted

# A row without elements, whose type is unknown.
_UNTYPED = np.zeros(0, object)


@dataclasses.dataclass(frozen=True)
class Place:
    """Names an array and its rows in an error.

    Attributes:
      text: names the array, and the client.
      rows: the user's name of each row; by default the row's number from 0.
      unit: the unit of the first axis.
    """

    text: str
    rows: Optional[Collection[Any]] = None
    unit: str = "row"

    def row(self, number: int) -> str:
        """Names a row by its number."""
        if self.rows is None:
            return f"{self.text}, {self.unit} {number}"
        return f"{self.text}, {self.unit} {list(self.rows)[number]}"

    def __str__(self) -> str:
        return self.text


def can_be_written(text: str) -> bool:
    """Whether text can be written as UTF-8; bytes of files' names are allowed."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def rows_or_array(where: Place, value: Any) -> Any:
    """Returns an array of numbers or bytes, or a list of arrays if rows differ."""
    kind = type(value)
    if kind is tuple and value and all(isinstance(v, np.ndarray) for v in value):
        raise ValueError(
            f"{where} is a tuple of arrays; give a dict of them, by the names of the "
            "model's inputs, or one array"
        )
    if kind.__name__ in ("RaggedTensor", "RaggedTensorValue"):
        rows = value.numpy() if kind.__name__ == "RaggedTensor" else value.to_list()
        value = list(rows)
    if "sparse" in f"{kind.__module__}.{kind.__name__}".lower():
        raise ValueError(
            f"{where} is a {kind.__name__}; give a dense array, as by .toarray() or "
            "tf.sparse.to_dense"
        )
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        row = int(np.argwhere(np.ma.getmaskarray(value))[0][0])
        raise ValueError(f"{where.row(row)}: the value is masked; fill it in")
    if isinstance(value, (list, tuple)):
        # NumPy drops the masks of a list's elements.
        masked = [i for i, each in enumerate(value) if _is_masked(each)]
        if masked:
            raise ValueError(f"{where.row(masked[0])}: the value is masked; fill it in")
    if kind.__module__.split(".")[0] == "pandas":
        _check_pandas(where, value)
    try:
        array = np.asarray(value)
    except ValueError:
        # The rows have different lengths.
        return rows_of(where, list(value))
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype.kind in "SU" and not isinstance(value, np.ndarray):
        # NumPy would convert numbers among text to text.
        array = np.asarray(value, object)
    if array.dtype.kind in "SUO":
        return _text(where, array)
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"{where} must be an array of numbers or text, got {array.dtype}; convert "
            "it first"
        )
    if array.dtype.kind == "f" and not isinstance(value, np.ndarray):
        _check_promoted(where, value, array)
    return array


def _check_promoted(where: Place, value: Any, array: np.ndarray) -> None:
    """Raises ValueError for an integer that is rounded because NumPy made floats."""
    if not (np.abs(array) >= 2.0**53).any():
        return
    is_frame = type(value).__module__.split(".")[0] == "pandas"
    given = value.to_numpy(object) if is_frame else np.asarray(value, object)
    wrong = rounded_in_double(given)
    if given.shape == array.shape and wrong.any():
        row = int(np.argwhere(wrong)[0][0])
        raise _rounded(where.row(row), given[wrong].flat[0])


def check_joined(rows: Sequence[np.ndarray], name_row: Callable[[int], str]) -> None:
    """Checks that no integer is rounded when rows become one array.

    Args:
      rows: arrays that NumPy joins.
      name_row: names a row in an error.

    Raises:
      ValueError: the rows together are floats, and float64 would round an integer.
    """
    dtypes = {row.dtype for row in rows if row.size}
    if len(dtypes) < 2 or np.result_type(*dtypes).kind != "f":
        return
    for number, row in enumerate(rows):
        wrong = rounded_in_double(row)
        if wrong.any():
            raise _rounded(name_row(number), row[wrong].flat[0])


def _rounded(row: str, number: object) -> ValueError:
    return ValueError(
        f"{row}: {number} would be rounded, because other numbers of the array are "
        "floats; give such integers an array of their own, or scale them"
    )


def _is_masked(value: Any) -> bool:
    """Whether an element of a list has a masked value, at any depth."""
    if isinstance(value, (list, tuple)):
        return any(map(_is_masked, value))
    return isinstance(value, np.ma.MaskedArray) and bool(np.ma.is_masked(value))


def _check_pandas(where: Place, value: Any) -> None:
    """Refuses categories that are numbers, which may be names or quantities."""
    columns = dict(value.items()) if value.ndim == 2 else {value.name: value}
    for name, column in columns.items():
        is_category = str(column.dtype) == "category"
        if is_category and column.cat.categories.dtype.kind in "iufb":
            raise ValueError(
                f"{where}: column {name!r} holds numbers as categories; give the "
                "numbers by .astype(float), or their places among the categories by "
                ".cat.codes"
            )


def rows_of(where: Place, values: Any) -> list[np.ndarray]:
    rows = []
    for number, value in enumerate(values):
        if isinstance(value, (list, tuple)) and not value:
            rows.append(_UNTYPED)
            continue
        row = rows_or_array(Place(where.row(number), unit="element"), value)
        if isinstance(row, list) and len({part.shape for part in row}) == 1:
            check_joined(row, where.row)
            row = np.stack(row)  # As Arrow has lists of lists.
        if isinstance(row, list) or not row.ndim:
            got = "rows of different lengths" if isinstance(row, list) else "one value"
            raise ValueError(
                f"{where.row(number)}: expected a sequence of equal elements, got {got}"
            )
        rows.append(row)
    return rows


def _text(where: Place, array: np.ndarray) -> Any:
    """Returns bytes by element, or arrays by row if the elements are sequences."""
    elements = array.reshape(-1).tolist()
    if elements and all(isinstance(e, (list, tuple, np.ndarray)) for e in elements):
        return rows_of(where, array)
    result = np.empty(array.shape, object)
    flat = result.reshape(-1)
    for place, element in enumerate(elements):
        if isinstance(element, str) and can_be_written(element):
            flat[place] = element.encode("utf-8", "surrogateescape")
        elif isinstance(element, bytes):
            flat[place] = element
        else:
            _refuse_objects(where, array, elements)
    return result


def _refuse_objects(where: Place, array: np.ndarray, elements: list[Any]) -> None:
    """Raises ValueError that names an element of an array of objects."""
    are_numbers = not any(isinstance(e, (str, bytes)) for e in elements)
    fine = (bool, int, float, np.number) if are_numbers else (str, bytes)
    odd = [
        place
        for place, e in enumerate(elements)
        if not isinstance(e, fine) or (isinstance(e, str) and not can_be_written(e))
    ]
    if not odd:
        raise ValueError(
            f"{where} holds numbers as Python objects; give numbers of one type, as "
            "by .astype(np.float64); no such type has integers above 64 bits"
        )
    element = elements[odd[0]]
    row = odd[0] // max(1, int(np.prod(array.shape[1:])))
    kind = type(element).__name__
    problem = f"holds {quoted(element)} ({kind}), expected a number or text"
    if element is None or kind in ("NAType", "NaTType"):
        problem = "no value; leave the example out or fill it in"
    elif isinstance(element, str):
        problem = (
            f"{quoted(element)} is not valid text; decode it with the right encoding"
        )
    elif not are_numbers:
        problem = f"holds {quoted(element)} ({kind}), but other elements are text"
    raise ValueError(f"{where.row(row)}: {problem}")
