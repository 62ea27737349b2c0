"""The labels of silos: numbers of classes, a number, or several labels at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
import pandas as pd

from tfl_research.data.tables import written
from tfl_research.data.tables.cells import finite_numbers, plain_cell, shown, text_of
from tfl_research.data.tables.files import Silo
from tfl_research.data.tables.label import Label
from tfl_research.data.tables.notation import BOOLEAN, INTEGER, Notation
from tfl_research.errors import quoted

# More distinct labels than this, with fewer than ten rows each, are no classes.
_MOST_SMALL_CLASSES = 20
_ROWS_PER_CLASS = 10
_INTEGER = re.compile(r"-?\d+", re.ASCII)
_LARGEST_EXACT = 2**53
_PLAIN = (written.INTEGER, written.DECIMAL)


# How labels that are true or false are written, where no schema says otherwise.
TRUTH_VALUES = Notation(
    BOOLEAN, spellings={"1": "true", "yes": "true", "0": "false", "no": "false"}
)


def _first_row(mask: np.ndarray) -> int:
    """The row, from 0, of the first True."""
    return int(np.argmax(mask))


def _missing(silo: Silo, label: str, cells: pd.Series) -> None:
    """Raises ValueError for a row without a label."""
    missing = cells.isna().to_numpy()
    if not missing.any():
        return
    row = _first_row(missing)
    raw = silo.frame[label].iloc[row]
    word = raw.strip() if isinstance(raw, str) else ""
    text = f"{silo.at(row, label)}: the label is missing"
    if word:
        text += (
            f", since {word!r} means no value; if it is a class, declare it: "
            '"label": {"classes": [...]} in schema.json'
        )
    raise ValueError(text)


def names(silo: Silo, label: str, declared: Optional[Label] = None) -> pd.Series:
    """The class name of every row, text.

    Without a declared notation a text is its own name, 007 among them; a whole number
    with a point, such as 2.0, has the name "2", and so has the number 2.0 of a Parquet
    file. No label becomes a float.

    Raises:
      ValueError: a label is missing or is not a class; the message names file, line
        and column.
    """
    notation = None if declared is None else declared.notation
    if notation is not None:
        cells = notation.read(label, silo.frame[label], silo.at)
        _missing(silo, label, cells)
        return cells.map(str)
    cells = silo.frame[label].map(plain_cell).astype(object)
    _missing(silo, label, cells)
    return _named(silo, label, cells, _name)


def _named(silo: Silo, label: str, cells: pd.Series, name: Any) -> pd.Series:
    found = []
    for row, cell in enumerate(cells):
        text = name(cell)
        if text is None:
            raise ValueError(
                f"{silo.at(row, label)}: {quoted(cell)} is not a class; expected "
                "integers or "
                "text (label_type=number predicts numbers)"
            )
        found.append(text)
    return pd.Series(found, index=cells.index, dtype=object)


def _name(cell: Any) -> Optional[str]:
    """A cell's class; None for a fraction, and for a float that was rounded."""
    if not isinstance(cell, str):
        is_float = isinstance(cell, float)
        if is_float and not (cell.is_integer() and abs(cell) <= _LARGEST_EXACT):
            return None
        return text_of(cell)
    kind = written.kind(cell)
    if kind == written.NOT_FINITE:
        return None
    # 2.0 is the class 2, and 007 is not the class 7.
    return written.whole(cell) if kind in _PLAIN else cell


def _is_integer(name: str) -> bool:
    return _INTEGER.fullmatch(name) is not None


def check_alike(silos: Sequence[Silo], label: str, named: Sequence[pd.Series]) -> bool:
    """Whether all classes are integers, else text; ValueError for a mixture."""
    texts = [~each.map(_is_integer).to_numpy(bool) for each in named]
    num_texts = sum(int(text.sum()) for text in texts)
    num_integers = sum(len(text) for text in texts) - num_texts
    if not num_texts or not num_integers:
        return num_texts == 0
    mostly_text = num_texts > num_integers
    for silo, text in zip(silos, texts):
        misfit = ~text if mostly_text else text
        if misfit.any():
            row = _first_row(misfit)
            raise ValueError(
                f"{silo.at(row, label)}: {quoted(silo.frame[label].iloc[row])} does "
                "not fit the other labels, most of which are "
                f"{'text' if mostly_text else 'integers'}; correct the files, or "
                'declare the label in schema.json with its "type" and "classes"'
            )
    return False


def classes(
    silos: Sequence[Silo],
    label: str,
    declared: tuple[str, ...] | None,
    notation: Optional[Label] = None,
) -> tuple[str, ...]:
    """Names of the classes: the declared names, or else the rows' names, sorted.

    Args:
      silos: all files.
      label: the label column.
      declared: the classes of schema.json; None if it declares no classes.
      notation: what schema.json says of the label's cells.

    Raises:
      ValueError: a label is missing, undeclared, or neither an integer nor text (the
        message names file, line and column); there is a single class; or there are too
        many distinct labels for classes.
    """
    if declared is not None:
        for silo in silos:
            named = _declared_names(silo, label, declared, notation)
            unknown = ~named.isin(declared).to_numpy()
            if unknown.any():
                row = _first_row(unknown)
                raise ValueError(
                    f"{silo.at(row, label)}: unknown label "
                    f"{quoted(named.iloc[row])}; schema.json declares "
                    f"{', '.join(map(shown, declared))}"
                    + _hint(str(named.iloc[row]), declared)
                )
        return declared
    found = tuple(counts(silos, label))
    if len(found) < 2:
        raise ValueError(
            f"label column {label!r} holds only {quoted(found[0])}; expected at "
            "least two "
            "classes"
        )
    return found


def _hint(name: str, declared: Sequence[str]) -> str:
    whole = written.whole(name)
    if whole is None or whole not in map(written.whole, declared):
        return ""
    return f'; if {name} is {whole}, declare "type": "{INTEGER}" beside the classes'


def _declared_names(
    silo: Silo, label: str, declared: tuple[str, ...], notation: Optional[Label]
) -> pd.Series:
    if notation is not None and notation.notation is not None:
        return names(silo, label, notation)
    raw = silo.frame[label]
    cells = pd.Series(
        [plain_cell(cell, declared) for cell in raw], index=raw.index, dtype=object
    )
    _missing(silo, label, cells)
    return cells.map(lambda c: c if isinstance(c, str) else _name(c) or text_of(c))


def counts(
    silos: Sequence[Silo], label: str, declared: Optional[Label] = None
) -> dict[str, int]:
    """The number of rows of each class, the classes in their order.

    Classes are sorted as integers if all are integers, or else as text.

    Raises:
      ValueError: a label is missing, or neither an integer nor text (the message names
        file, line and column); or there are too many distinct labels for classes.
    """
    named = [names(silo, label, declared) for silo in silos]
    integers = check_alike(silos, label, named)
    together = pd.concat(named)
    rows = together.value_counts()
    if len(rows) > max(_MOST_SMALL_CLASSES, len(together) / _ROWS_PER_CLASS):
        raise ValueError(
            f"label column {label!r} holds {len(rows)} distinct values in "
            f"{len(together)} rows; expected classes: is it the right column? "
            "(label_type=number predicts numbers)"
        )

    def order(name: str) -> tuple[int, str]:
        return (int(name) if integers else 0, name)

    return {str(name): int(rows[name]) for name in sorted(rows.index, key=order)}


def encode(
    silo: Silo,
    label: str,
    class_names: Sequence[str],
    declared: bool = False,
    notation: Optional[Label] = None,
) -> np.ndarray:
    """Each row's class number, int32 `[rows]`, in the order of `class_names`."""
    numbered = {name: number for number, name in enumerate(class_names)}
    if declared:
        named = _declared_names(silo, label, tuple(class_names), notation)
    else:
        named = names(silo, label)
    return named.map(numbered).to_numpy(np.int32)


def encode_numbers(silo: Silo, label: str, declared: Label) -> np.ndarray:
    """Each row's number, float32 `[rows]`.

    Raises:
      ValueError: a cell is missing, is no finite float32 number, or is outside of the
        declared range; the message names the cell.
    """
    notation = declared.notation
    raw = silo.frame[label]
    if notation is None:
        cells = raw.map(plain_cell).astype(object)
    else:
        cells = notation.read(label, raw, silo.at)
    _missing(silo, label, cells)
    values = finite_numbers(label, cells, silo.at)
    low = -np.inf if declared.low is None else declared.low
    high = np.inf if declared.high is None else declared.high
    wrong = (values < low) | (values > high)
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    for mask, problem in (
        (wrong, f"is outside the declared range, {low:g} to {high:g}"),
        (~np.isfinite(single), "is beyond the numbers of float32"),
    ):
        if mask.any():
            row = _first_row(mask)
            raise ValueError(
                f"{silo.at(row, label)}: {quoted(raw.iloc[row])} {problem}"
            )
    return single


def encode_several(
    silo: Silo, columns: Sequence[str], declared: Mapping[str, Notation]
) -> np.ndarray:
    """Each row's labels, int32 `[rows, columns]`, 1 for true.

    Without a declaration a cell is 0 or 1, or a truth value.

    Raises:
      ValueError: a cell is missing, or neither true nor false; the message names it.
    """
    found = np.zeros((len(silo.frame), len(columns)), np.int32)
    for place, column in enumerate(columns):
        notation = declared.get(column, TRUTH_VALUES)
        cells = notation.read(column, silo.frame[column], silo.at)
        _missing(silo, column, cells)
        found[:, place] = (cells == "true").to_numpy()
    return found
