"""The label column of silos: its classes, the same for all files, and their numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tfl_research.data.tables.cells import numbers, text_of
from tfl_research.data.tables.files import Silo

# More distinct labels than this, with fewer than ten rows each, are no classes.
_MOST_SMALL_CLASSES = 20
_ROWS_PER_CLASS = 10


def _first_row(mask: pd.Series) -> int:
    """The row, from 0, of the first True."""
    return int(mask.to_numpy().argmax())


def _names(silo: Silo, label: str) -> pd.Series:
    """The class name of every row; 3 and 3.0 have the same name."""
    cells = silo.frame[label]
    if cells.isna().any():
        where = silo.at(_first_row(cells.isna()), label)
        raise ValueError(f"{where}: the label is missing")
    values = numbers(cells)
    return cells.map(text_of).where(values.isna(), values.map(text_of))


def _are_integers(silos: Sequence[Silo], label: str) -> bool:
    """Whether all labels are integers, else text; ValueError for a mixture."""
    texts = []
    for silo in silos:
        values = numbers(silo.frame[label])
        fractional = values.notna() & (values % 1 != 0)
        if fractional.any():
            row = _first_row(fractional)
            raise ValueError(
                f"{silo.at(row, label)}: {silo.frame[label].iloc[row]!r} is "
                "no class; expected integers or text"
            )
        texts.append(values.isna())
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
                f"{silo.at(row, label)}: {silo.frame[label].iloc[row]!r} does "
                "not fit the other labels, most of which are "
                f"{'text' if mostly_text else 'integers'}"
            )
    return False


def classes(
    silos: Sequence[Silo], label: str, declared: tuple[str, ...] | None
) -> tuple[str, ...]:
    """Names of the classes: the declared names, or else the rows' names, sorted.

    Args:
      silos: all files.
      label: the label column.
      declared: the classes of schema.json; None if it declares no classes.

    Raises:
      ValueError: a label that is missing, undeclared, or neither an integer nor text
        (names file, line and column); a single class; or too many distinct labels for
        classes.
    """
    if declared is not None:
        for silo in silos:
            named = _names(silo, label)
            unknown = ~named.isin(declared)
            if unknown.any():
                row = _first_row(unknown)
                raise ValueError(
                    f"{silo.at(row, label)}: unknown label "
                    f"{named.iloc[row]!r}; schema.json declares "
                    f"{', '.join(declared)}"
                )
        return declared
    names = tuple(counts(silos, label))
    if len(names) < 2:
        raise ValueError(
            f"label column {label!r} holds only {names[0]!r}; expected at least two "
            "classes"
        )
    return names


def counts(silos: Sequence[Silo], label: str) -> dict[str, int]:
    """The number of rows of each class, the classes in their order.

    Classes are sorted as integers if all are integers, or else as text.

    Raises:
      ValueError: a label that is missing, or neither an integer nor text (names file,
        line and column); or too many distinct labels for classes.
    """
    named = [_names(silo, label) for silo in silos]
    integers = _are_integers(silos, label)
    together = pd.concat(named)
    rows = together.value_counts()
    if len(rows) > max(_MOST_SMALL_CLASSES, len(together) / _ROWS_PER_CLASS):
        raise ValueError(
            f"label column {label!r} holds {len(rows)} distinct values in "
            f"{len(together)} rows; expected classes: is it the right column?"
        )
    return {
        str(name): int(rows[name])
        for name in sorted(rows.index, key=int if integers else str)
    }


def encode(silo: Silo, label: str, names: Sequence[str]) -> np.ndarray:
    """Each row's class number, int32 `[rows]`, in the order of `names`."""
    numbered = {name: number for number, name in enumerate(names)}
    return _names(silo, label).map(numbered).to_numpy(np.int32)
