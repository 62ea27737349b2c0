"""Converts a client's arrays, as a user gives them, to the types that models take.

Values that cannot be converted without a guess are refused in one line. The line names
the client, the array and, if possible, the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

import numpy as np

from tfl_research.data.arrays import structures
from tfl_research.data.arrays.exactness import rounded_integers, vanished
from tfl_research.data.arrays.raw_arrays import (
    Place as Place,
    can_be_written,
    check_joined,
    rows_of,
    rows_or_array,
)
from tfl_research.data.arrays.sequences import Sequences
from tfl_research.data.cohort import Examples

_NOTHING: Mapping[str, Sequences] = {}
_NO_PLACES: Mapping[str, Place] = {}
_EXPECTED = "x (an array, or a dict of arrays), y and sample_weight"


def check_id(client_id: object) -> None:
    """Raises ValueError unless a client's id is text that can be written."""
    if not isinstance(client_id, str):
        raise ValueError(
            f"client ids must be text, got {client_id!r}; give {str(client_id)!r}"
        )
    if not can_be_written(client_id):
        raise ValueError(
            f"client id {client_id!r} is not valid text (a lone surrogate); decode it "
            "with the right encoding"
        )


def converted(
    client_id: str,
    arrays: Mapping[str, Any],
    sequences: Mapping[str, Sequences] = _NOTHING,
    places: Mapping[str, Place] = _NO_PLACES,
) -> Examples:
    """Converts a client's arrays; returns them by flat name.

    Floats and weights become float32, integer labels become int32, and text becomes
    bytes in an array of objects. Nothing else is changed, and nothing is left out.

    Args:
      client_id: the client that has the arrays.
      arrays: "x" and optionally "y" and "sample_weight", anything that NumPy turns into
        arrays, or lists of rows of different lengths; x and y may be dicts, or have
        flat names as "x/age".
      sequences: how rows of different lengths are padded, by flat name.
      places: names of arrays and rows in errors, by flat name, if they differ from the
        arguments' names.

    Raises:
      ValueError: an array has another name; there is no x; lengths differ; or values
        are missing, not finite, or of a type that no model takes.

    Example:
      >>> from tfl_research.data import conversion
      >>> arrays = {"x": {"age": [30, 40], "city": ["Oslo", "Rome"]}, "y": [1, 0]}
      >>> flat = conversion.converted("ward", arrays)
      >>> {name: str(array.dtype) for name, array in flat.items()}
      {'x/age': 'int64', 'x/city': 'object', 'y': 'int32'}
    """
    check_id(client_id)
    if not isinstance(arrays, Mapping):
        raise ValueError(
            f"client {client_id!r} must have its arrays by name, {{'x': ..., 'y': "
            f"...}}, got {type(arrays).__name__}"
        )
    flat = _flat(client_id, arrays)
    for name in sequences:
        if name not in flat:
            raise ValueError(
                f"sequences: client {client_id!r} has no array {name!r}; it has "
                f"{', '.join(structures.ordered(flat))}; give Sequences by such a name"
            )
    examples = {
        name: _array(
            places.get(name) or Place(f"client {client_id!r}: {name}"),
            name,
            flat[name],
            sequences.get(name),
        )
        for name in structures.ordered(flat)
    }
    first = next(iter(examples))
    for name, array in examples.items():
        if len(array) != len(examples[first]):
            raise ValueError(
                f"client {client_id!r} has {len(examples[first])} rows of {first} but "
                f"{len(array)} of {name}; give every array one row for each example"
            )
    return examples


def _flat(client_id: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the unchanged arrays by flat name; raises ValueError for a wrong name."""
    flat: dict[str, Any] = {}
    for name, value in arrays.items():
        if not isinstance(name, str) or not structures.is_example_array(name):
            raise ValueError(
                f"client {client_id!r}: unknown array {name!r}; expected {_EXPECTED}"
            )
        whole = structures.of(name)
        try:
            structures.check_part(name)
        except ValueError as error:
            raise ValueError(f"client {client_id!r}: {error}") from None
        if name != whole and whole in arrays:
            raise ValueError(
                f"client {client_id!r} has both {whole!r} and {name!r}; give one"
            )
        if isinstance(value, Mapping) and name not in ("x", "y"):
            raise ValueError(
                f"client {client_id!r}: {name!r} is a dict; expected an array"
            )
        try:
            flat.update(structures.flattened(name, value))
        except ValueError as error:
            raise ValueError(f"client {client_id!r}: {error}") from None
    if not any(structures.of(name) == "x" for name in flat):
        raise ValueError(
            f"client {client_id!r} has no 'x'; expected {_EXPECTED}, got "
            f"{', '.join(map(repr, arrays)) or 'nothing'}"
        )
    return flat


def _array(where: Place, name: str, value: Any, sequence: Optional[Sequences]) -> Any:
    array = rows_or_array(where, value)
    if sequence is not None:
        rows = array if isinstance(array, list) else rows_of(where, array)
        array = sequence.padded(str(where), rows, where.row)
    if isinstance(array, list) and len({row.shape for row in array}) == 1:
        check_joined(array, where.row)
        array = np.stack(array)
    if isinstance(array, list):
        lengths = sorted({len(row) for row in array})
        raise ValueError(
            f"{where} has rows of different lengths, {lengths[0]} to {lengths[-1]}; "
            "give sequences=tasks.Sequences(length), to which they are padded"
        )
    if not array.ndim:
        raise ValueError(
            f"{where} must be an array of numbers with an axis of examples, got "
            f"{array.dtype} {list(array.shape)}"
        )
    if structures.of(name) == "x":
        return array if structures.is_text(array.dtype) else _numbers(where, array)
    if array.dtype.kind not in "fiub":
        text = structures.is_text(array.dtype)
        advice = "; give the number of each class" if text else ""
        raise ValueError(
            f"{where} must be an array of numbers with an axis of examples, got "
            f"{'text' if text else array.dtype} {list(array.shape)}{advice}"
        )
    array = _numbers(where, array)
    if name == structures.SAMPLE_WEIGHT:
        return _weights(where, array)
    return array if array.dtype.kind == "f" else _integers(where, array)


def _numbers(where: Place, array: np.ndarray) -> np.ndarray:
    """Converts floats to float32, and leaves other numbers as they are."""
    if array.dtype.kind in "iub":
        return array
    with np.errstate(over="ignore"):
        single = array.astype(np.float32, copy=False)
    wrong = ~np.isfinite(single)
    if wrong.any():
        row = int(np.argwhere(wrong)[0][0])
        shown = array[wrong].flat[0]
        raise ValueError(
            f"{where.row(row)}: {shown} is not finite in float32; leave such examples "
            "out or fill them in"
        )
    rounded = rounded_integers(array)
    if rounded.any():
        row = int(np.argwhere(rounded)[0][0])
        raise ValueError(
            f"{where.row(row)}: {array[rounded].flat[0]:.0f} would be rounded in "
            "float32; give such numbers as integers, scale them, or round them "
            "yourself, by .astype(np.float32)"
        )
    gone = vanished(array, single)
    if gone.any():
        row = int(np.argwhere(gone)[0][0])
        raise ValueError(
            f"{where.row(row)}: {array[gone].flat[0]:g} is too small for float32, "
            "which makes all of the column 0; scale the numbers, or round them "
            "yourself, by .astype(np.float32)"
        )
    return single


def _integers(where: Place, array: np.ndarray) -> np.ndarray:
    """Converts integer labels to int32."""
    limits = np.iinfo(np.int32)
    if array.dtype.kind != "b" and array.size:
        wrong = (array < limits.min) | (array > limits.max)
        if wrong.any():
            row = int(np.argwhere(wrong)[0][0])
            raise ValueError(
                f"{where.row(row)}: {array[wrong].flat[0]} does not fit into int32; "
                "give integers from -2**31 to 2**31 - 1"
            )
    return array.astype(np.int32, copy=False)


def _weights(where: Place, array: np.ndarray) -> np.ndarray:
    if array.ndim != 1:
        raise ValueError(
            f"{where} must be one number for each example, got {list(array.shape)}"
        )
    rounded = rounded_integers(array)
    if rounded.any():
        row = int(np.argmax(rounded))
        raise ValueError(
            f"{where.row(row)}: {array[row]} would be rounded in float32; scale the "
            "weights"
        )
    if (array < 0).any():
        row = int(np.argmax(array < 0))
        raise ValueError(
            f"{where.row(row)}: {array[row]} is negative; weights must be at least 0"
        )
    return array.astype(np.float32)
