"""A client's arrays as a user has them, in the types that models take.

What cannot be converted without a guess is refused in one line, which names the client,
the array and, where there is one, the row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Optional

import numpy as np

from tfl_research.data import structures
from tfl_research.data.cohort import Examples
from tfl_research.data.sequences import Sequences

# A row of no elements, and so of no type.
_UNTYPED = np.zeros(0, object)
_NOTHING: Mapping[str, Sequences] = {}
_NO_PLACES: Mapping[str, Place] = {}
_EXPECTED = "x (an array, or a dict of arrays), y and sample_weight"


@dataclasses.dataclass(frozen=True)
class Place:
    """Names an array and its rows in an error.

    Attributes:
      text: names the array, and the client.
      rows: the user's name of each row; its number from 0 where not given.
      unit: of the first axis.
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


def check_id(client_id: object) -> None:
    """Raises ValueError unless a client's id is text that can be written."""
    if not isinstance(client_id, str):
        raise ValueError(
            f"client ids must be text, got {client_id!r}; give {str(client_id)!r}"
        )
    if not _can_be_written(client_id):
        raise ValueError(
            f"client id {client_id!r} is no valid text (a lone surrogate); decode it "
            "with the right encoding"
        )


def _can_be_written(text: str) -> bool:
    """Whether text is UTF-8, but for bytes of files' names that are not."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def converted(
    client_id: str,
    arrays: Mapping[str, Any],
    sequences: Mapping[str, Sequences] = _NOTHING,
    places: Mapping[str, Place] = _NO_PLACES,
) -> Examples:
    """The client's arrays, flat and by name.

    Floats become float32, integer labels int32, text becomes bytes in an array of
    objects, and weights float32. Nothing else is changed, and nothing is left out.

    Args:
      client_id: whose arrays they are.
      arrays: "x" and optionally "y" and "sample_weight", anything that NumPy turns into
        arrays, or lists of rows of different lengths; x and y may be dicts, or have
        flat names as "x/age".
      sequences: how rows of different lengths are padded, by flat name.
      places: names of arrays and rows in errors, by flat name, where they are not
        those of the arguments.

    Raises:
      ValueError: another name, no x, lengths that differ, or values that are not
        finite, missing, or of a type that no model takes.

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
                f"{len(array)} of {name}"
            )
    return examples


def _flat(client_id: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays by flat name, as they are; an error names what is wrong."""
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
    array = _rows_or_array(where, value)
    if sequence is not None:
        rows = array if isinstance(array, list) else _rows_of(where, array)
        array = sequence.padded(str(where), rows, where.row)
    if isinstance(array, list) and len({row.shape for row in array}) == 1:
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
    """Numbers as they are, but for floats, which become float32."""
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
    return single


def _integers(where: Place, array: np.ndarray) -> np.ndarray:
    """Labels as int32."""
    limits = np.iinfo(np.int32)
    if array.dtype.kind != "b" and array.size:
        wrong = (array < limits.min) | (array > limits.max)
        if wrong.any():
            row = int(np.argwhere(wrong)[0][0])
            raise ValueError(
                f"{where.row(row)}: {array[wrong].flat[0]} does not fit into int32"
            )
    return array.astype(np.int32, copy=False)


def _weights(where: Place, array: np.ndarray) -> np.ndarray:
    if array.ndim != 1:
        raise ValueError(
            f"{where} must be one number for each example, got {list(array.shape)}"
        )
    if (array < 0).any():
        row = int(np.argmax(array < 0))
        raise ValueError(f"{where.row(row)}: {array[row]} is negative")
    return array.astype(np.float32)


def _rows_or_array(where: Place, value: Any) -> Any:
    """An array of numbers, or of bytes; or a list of arrays where rows differ."""
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
        raise ValueError(f"{where.row(row)}: a masked value; fill it in")
    try:
        array = np.asarray(value)
    except ValueError:
        # Rows of different lengths.
        return _rows_of(where, list(value))
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype.kind in "SU" and not isinstance(value, np.ndarray):
        # NumPy makes text of numbers among text.
        array = np.asarray(value, object)
    if array.dtype.kind in "SUO":
        return _text(where, array)
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"{where} must be an array of numbers or text, got {array.dtype}; convert "
            "it first"
        )
    return array


def _rows_of(where: Place, values: Any) -> list[np.ndarray]:
    rows = []
    for number, value in enumerate(values):
        if isinstance(value, (list, tuple)) and not value:
            rows.append(_UNTYPED)
            continue
        row = _rows_or_array(Place(where.row(number), unit="element"), value)
        if isinstance(row, list) or not row.ndim:
            got = "rows of different lengths" if isinstance(row, list) else "one value"
            raise ValueError(
                f"{where.row(number)}: expected a sequence of equal elements, got {got}"
            )
        rows.append(row)
    return rows


def _text(where: Place, array: np.ndarray) -> Any:
    """Bytes by element; or arrays by row where the elements are sequences."""
    elements = array.reshape(-1).tolist()
    if elements and all(isinstance(e, (list, tuple, np.ndarray)) for e in elements):
        return _rows_of(where, array)
    result = np.empty(array.shape, object)
    flat = result.reshape(-1)
    for place, element in enumerate(elements):
        if isinstance(element, str) and _can_be_written(element):
            flat[place] = element.encode("utf-8", "surrogateescape")
        elif isinstance(element, bytes):
            flat[place] = element
        else:
            _refuse_objects(where, array, elements)
    return result


def _refuse_objects(where: Place, array: np.ndarray, elements: list[Any]) -> None:
    """Raises ValueError that names the worst element of an array of objects."""
    are_numbers = not any(isinstance(e, (str, bytes)) for e in elements)
    fine = (bool, int, float, np.number) if are_numbers else (str, bytes)
    odd = [
        place
        for place, e in enumerate(elements)
        if not isinstance(e, fine) or (isinstance(e, str) and not _can_be_written(e))
    ]
    if not odd:
        raise ValueError(
            f"{where} holds numbers as Python objects; give numbers of one type, as by "
            ".astype(...), which no integer above 64 bits has"
        )
    element = elements[odd[0]]
    row = odd[0] // max(1, int(np.prod(array.shape[1:])))
    kind = type(element).__name__
    problem = f"holds {element!r} ({kind}), expected a number or text"
    if element is None or kind in ("NAType", "NaTType"):
        problem = "no value; leave the example out or fill it in"
    elif isinstance(element, str):
        problem = f"{element!r} is no valid text; decode it with the right encoding"
    elif not are_numbers:
        problem = f"holds {element!r} ({kind}), but other elements are text"
    raise ValueError(f"{where.row(row)}: {problem}")
