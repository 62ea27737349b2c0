"""Rows of a DataFrame as flat arrays: which columns are features, labels and weights.

Nothing is computed from the rows: numbers stay as they are, and text is an input of its
own or has declared categories (`Schema`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np
import pandas as pd

from tfl_research.data import conversion
from tfl_research.data.arrays import structures
from tfl_research.data.arrays.exactness import (
    rounded_in_double,
    rounded_integers,
    vanished,
)
from tfl_research.data.arrays.listed import listed
from tfl_research.data.tables.cells import CellNamer, refuse, refuse_rounded, text_of
from tfl_research.data.tables.schema import Schema

# A column by its name as it is; columns as a matrix of floats; or declared columns.
Part = Union[str, Sequence[str], Schema]
Parts = Union[None, Part, Mapping[str, Part]]


def _columns_of(part: Part) -> tuple[str, ...]:
    if isinstance(part, Schema):
        return part.column_names
    return (part,) if isinstance(part, str) else tuple(part)


@dataclasses.dataclass(frozen=True)
class FrameColumns:
    """The role of each column of a table.

    Attributes:
      features: columns of x, one matrix of float32; a `Schema` of declared columns; or
        a dict of inputs by name, each a column as it is (`[n]`, numbers, text or
        sequences), a list of columns (a matrix) or a `Schema`.
      label: a column of y `[n]`, a list of columns (a matrix), a dict of such, or None.
      weight: column of the examples' weights, or None.
      classes: texts of the label's cells, in the order of their numbers; None where
        labels are numbers.

    Raises:
      ValueError: there are no columns, a column is both a feature and a label or a
        weight, or there are classes and not exactly one label column.
    """

    features: Union[Part, Mapping[str, Part]]
    label: Parts = None
    weight: Optional[str] = None
    classes: Optional[tuple[str, ...]] = None

    def __post_init__(self) -> None:
        if not columns_of(self.features):
            raise ValueError(
                "features: no column is left for the features; expected at least one"
            )
        for part in _parts_of(self.features):
            repeated = [n for n in _columns_of(part) if _columns_of(part).count(n) > 1]
            if repeated:
                raise ValueError(
                    f"features: column {repeated[0]!r} is listed twice; list it once"
                )
        targets = [*columns_of(self.label), self.weight]
        for name in targets:
            if name in columns_of(self.features) or targets.count(name) > 1:
                raise ValueError(
                    f"column {name!r} is used twice among features, label and weight; "
                    "use each column once"
                )
        if self.classes is not None:
            if not isinstance(self.label, str):
                raise ValueError(
                    f"classes need one label column, got label={self.label!r}"
                )
            if len(set(self.classes)) < len(self.classes) or len(self.classes) < 2:
                raise ValueError(
                    f"classes must be two or more distinct names, got {self.classes}"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are read, each once."""
        weight = () if self.weight is None else (self.weight,)
        names = (*columns_of(self.features), *columns_of(self.label), *weight)
        return tuple(dict.fromkeys(names))

    @property
    def declares(self) -> tuple[str, ...]:
        """The facts that are taken for public knowledge."""
        facts = []
        if any(isinstance(part, Schema) for part in _parts_of(self.features)):
            facts.append("the columns, ranges and categories of the schema")
        if self.classes is not None:
            facts.append("the classes of the label")
        return tuple(facts)

    def check(self, columns: Sequence[Hashable], where: str) -> None:
        """Raises ValueError unless the table has each column exactly once."""
        for name in self.names:
            count = sum(column == name for column in columns)
            if count != 1:
                problem = "no column" if not count else f"{count} columns called"
                raise ValueError(
                    f"{where} has {problem} {name!r}; it has "
                    f"{', '.join(map(str, columns))}"
                )

    def arrays(self, client_id: str, frame: pd.DataFrame) -> dict[str, Any]:
        """A client's arrays, as `conversion.converted` takes them.

        Args:
          client_id: the client, for errors.
          frame: the client's rows; its index names them in errors.

        Raises:
          ValueError: a cell is missing or does not fit; the message names client,
            column and row.
        """

        def at(row: int, column: str) -> str:
            return f"client {client_id!r}, column {column!r}, row {frame.index[row]}"

        found: dict[str, Any] = {}
        for whole, parts in (("x", self.features), ("y", self.label)):
            if parts is None:
                continue
            for name, part in structures.flattened(whole, parts).items():
                found[name] = self._array(name, part, frame, at)
        if self.weight is not None:
            found[structures.SAMPLE_WEIGHT] = _numbers(
                self.weight, frame[self.weight], at, "weights are numbers"
            )
        return found

    def places(
        self, client_id: str, frame: pd.DataFrame
    ) -> dict[str, conversion.Place]:
        """How errors name the arrays and their rows, by flat name."""
        named: dict[str, Part] = {}
        for whole, parts in (("x", self.features), ("y", self.label)):
            if parts is not None:
                named.update(structures.flattened(whole, parts))
        if self.weight is not None:
            named[structures.SAMPLE_WEIGHT] = self.weight
        found = {}
        for name, part in named.items():
            text = f"client {client_id!r}: {name}"
            if isinstance(part, str):
                text = f"client {client_id!r}, column {part!r}"
            found[name] = conversion.Place(text, frame.index)
        return found

    def _array(self, name: str, part: Part, frame: pd.DataFrame, at: CellNamer) -> Any:
        if isinstance(part, Schema):
            return part.encode(frame, at)
        if structures.of(name) == "x":
            if isinstance(part, str):
                return _as_it_is(part, frame[part], at)
            return _matrix(part, frame, at)
        if isinstance(part, str):
            if self.classes is not None:
                return _class_numbers(part, frame[part], self.classes, at)
            return _numbers(part, frame[part], at, "give classes=[...] in their order")
        advice = "labels of several columns are numbers"
        columns = [_numbers(column, frame[column], at, advice) for column in part]
        joined = np.stack(columns, axis=1)
        if joined.dtype.kind == "f":
            for column, numbers in zip(part, columns):
                _check_exact(column, frame[column], numbers, at)
        return joined


def in_order(kind: str, parts: Any) -> Any:
    """Features or labels with tuples for their lists of columns.

    Args:
      kind: "features" or "label", for errors.
      parts: as a user gives them.

    Raises:
      ValueError: a set of columns, which has no order.
    """
    if parts is None or isinstance(parts, (str, Schema)):
        return parts
    if isinstance(parts, Mapping):
        return {n: in_order(f"{kind} {n!r}", part) for n, part in parts.items()}
    return listed(kind, parts)


def columns_of(parts: Parts) -> tuple[str, ...]:
    """The columns of features or labels, in order."""
    return tuple(name for part in _parts_of(parts) for name in _columns_of(part))


def _parts_of(parts: Parts) -> list[Part]:
    if isinstance(parts, Mapping):
        return list(parts.values())
    return [] if parts is None else [parts]


def _present(column: str, cells: pd.Series, at: CellNamer) -> pd.Series:
    """The cells; ValueError where one is missing."""
    missing = cells.isna().to_numpy()
    if missing.any():
        raise ValueError(
            f"{at(int(np.argmax(missing)), column)}: no value; fill it in, leave the "
            "row out, or declare the column in a tables.Schema"
        )
    return cells


def _numbers(column: str, cells: pd.Series, at: CellNamer, advice: str) -> np.ndarray:
    """Numbers or truth values, in their own type."""
    cells = _present(column, cells, at)
    kind = cells.dtype
    if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_complex_dtype(kind):
        wrong = np.ones(len(cells), bool)
        if pd.api.types.is_object_dtype(kind):
            wrong = np.array(
                [
                    not isinstance(c, (int, float, np.number, np.bool_))
                    or isinstance(c, np.complexfloating)
                    for c in cells
                ],
                bool,
            )
        if not len(cells):
            return np.zeros(0, np.float32)
        if wrong.any():
            refuse(column, cells, wrong, f"is not a number ({kind}); {advice}", at)
        return _of_objects(column, cells, at)
    array: np.ndarray = cells.to_numpy()
    return _of_objects(column, cells, at) if array.dtype == object else array


def _of_objects(column: str, cells: pd.Series, at: CellNamer) -> np.ndarray:
    """Cells that are Python's numbers, as an array of one type.

    Raises:
      ValueError: NumPy has no type for an integer, or would make it a float.
    """
    values = cells.tolist()
    array = np.asarray(values)
    limits = np.iinfo(np.int64)
    wrong = np.array(
        [isinstance(v, int) and not limits.min <= v <= limits.max for v in values], bool
    )
    if array.dtype.kind not in "iub" and wrong.any():
        refuse(
            column,
            cells,
            wrong,
            "does not fit into int64; give smaller numbers, or text",
            at,
        )
    if array.dtype.kind not in "fiub":
        wrong = np.ones(len(cells), bool)
        refuse(
            column,
            cells,
            wrong,
            "is a number for which NumPy has no type; convert it first",
            at,
        )
    if array.dtype.kind == "f":
        _check_exact(column, cells, np.array(values, object), at)
    return array


def _check_exact(
    column: str, cells: pd.Series, numbers: np.ndarray, at: CellNamer
) -> None:
    """Raises ValueError for an integer that is rounded if it becomes a float."""
    wrong = rounded_in_double(numbers)
    if wrong.any():
        problem = "would be rounded, because other numbers are floats; scale it"
        refuse(column, cells, wrong, problem, at)


def _matrix(columns: Sequence[str], frame: pd.DataFrame, at: CellNamer) -> np.ndarray:
    """Columns of numbers as float32 `[n, columns]`."""
    x = np.zeros((len(frame), len(columns)), np.float32)
    advice = (
        "declare its categories in a tables.Schema, give the column an input of its "
        "own (features={...}), or leave it out of features"
    )
    for place, column in enumerate(columns):
        numbers = _numbers(column, frame[column], at, advice)
        with np.errstate(over="ignore"):
            x[:, place] = numbers
        wrong = rounded_integers(numbers)
        if wrong.any():
            problem = (
                "is not exact in float32; give the column an input of its own "
                "(features={...}), or scale it"
            )
            refuse(column, frame[column], wrong, problem, at)
        gone = vanished(numbers, x[:, place])
        if gone.any():
            problem = (
                "is too small for float32, which makes all of the column 0; scale it"
            )
            refuse(column, frame[column], gone, problem, at)
        if not np.isfinite(x[:, place]).all():
            wrong = ~np.isfinite(x[:, place])
            refuse(
                column,
                frame[column],
                wrong,
                "is not finite in float32; fill it in, or leave the row out",
                at,
            )
    return x


def _as_it_is(column: str, cells: pd.Series, at: CellNamer) -> Any:
    """A column's numbers, texts or sequences."""
    cells = _present(column, cells, at)
    kind = cells.dtype
    if pd.api.types.is_numeric_dtype(kind):
        return _numbers(column, cells, at, "")
    values = cells.tolist()
    plain = (str, bytes, bool, int, float, np.number, list, tuple, np.ndarray)
    wrong = np.array([not isinstance(value, plain) for value in values], bool)
    if wrong.any():
        problem = f"is neither a number, nor text, nor a sequence ({kind}); convert it"
        refuse(column, cells, wrong, problem, at)
    texts = np.array([isinstance(value, (str, bytes)) for value in values], bool)
    if texts.any() and not texts.all():
        refuse(
            column,
            cells,
            ~texts,
            "is not text, but other cells are; convert the column, as by .astype(str)",
            at,
        )
    return np.array(values, object) if texts.any() else values


def _class_numbers(
    column: str, cells: pd.Series, classes: Sequence[str], at: CellNamer
) -> np.ndarray:
    """The numbers of the classes, int32 `[n]`."""
    cells = _present(column, cells, at)
    refuse_rounded(column, cells, at)
    numbered = {text_of(name): number for number, name in enumerate(classes)}
    found = [numbered.get(text_of(cell), -1) for cell in cells.astype(object)]
    numbers = np.array(found, np.int32)
    if (numbers < 0).any():
        declared = ", ".join(map(str, classes))
        problem = f"is not one of the declared classes: {declared}"
        refuse(column, cells.astype(object), numbers < 0, problem, at)
    return numbers
