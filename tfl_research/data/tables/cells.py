"""Reads cells of a table as text and as numbers, and names a wrong cell."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection
from typing import Any, Optional

import numpy as np
import pandas as pd

from tfl_research.data.tables.written import LONGEST, MISSING, value
from tfl_research.errors import quoted, shortened

# (row from 0, column) -> how an error names the cell.
CellNamer = Callable[[int, str], str]


def row_and_column(row: int, column: str) -> str:
    """Names a cell by its row, counted from 0, and its column."""
    return f"column {column!r}, row {row}"


def text_of(cell: Any) -> str:
    """Returns the text that names a cell's category; "3" for 3 and 3.0."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    try:
        return str(cell)
    except ValueError:  # Python does not write whole numbers of thousands of digits.
        return hex(cell)


def shown(text: str) -> str:
    """Formats a name for an error; quotes it if parts would be invisible."""
    plain = text.isprintable() and text.strip() == text and text
    return shortened(text) if plain else quoted(text)


def plain_cell(cell: Any, values: Collection[str] = ()) -> Optional[Any]:
    """Reads a cell without a declared notation: trims it; None if it has no value.

    Args:
      cell: text, a number or None.
      values: texts that are values, although they may look like "no value".
    """
    if not isinstance(cell, str):
        return cell
    text = cell.strip()
    is_word = len(text) <= LONGEST and text.lower() in MISSING and text not in values
    return None if is_word else text


def plain(cells: pd.Series, values: Collection[str] = ()) -> pd.Series:
    """Reads each cell by `plain_cell`."""
    found = [plain_cell(cell, values) for cell in cells]
    return pd.Series(found, index=cells.index, dtype=object)


def numbers(cells: pd.Series) -> pd.Series:
    """Converts cells to float64; NaN if missing or not a number."""
    return pd.to_numeric(cells, errors="coerce").astype(np.float64)


def finite_numbers(
    column: str, cells: pd.Series, at: CellNamer = row_and_column
) -> np.ndarray:
    """Converts cells to float64 `[n]`; NaN if missing.

    Raises:
      ValueError: a cell is not a number, or is infinite.
    """
    # pandas would convert times to numbers, in a unit that the user did not choose.
    no_numbers = (complex, np.complexfloating, np.datetime64, np.timedelta64)
    wrong = np.zeros(len(cells), bool)
    if cells.dtype.kind not in "fiub":
        wrong = np.array(
            [
                isinstance(c, (*no_numbers, datetime.date, datetime.timedelta))
                for c in cells
            ],
            bool,
        )
    if wrong.any():
        refuse(column, cells, wrong, "is not a number; convert it first", at)
    values = numbers(cells).to_numpy()
    wrong = np.isnan(values) & cells.notna().to_numpy()
    if wrong.any():
        refuse(
            column,
            cells,
            wrong,
            "is not a number; correct the cell, or declare the column's categories",
            at,
        )
    if np.isinf(values).any():
        refuse(column, cells, np.isinf(values), "is not finite; correct the cell", at)
    wrong = values == 0
    if cells.dtype == object and wrong.any():
        for row in np.flatnonzero(wrong):
            cell = cells.iloc[row]
            wrong[row] = isinstance(cell, str) and bool(value(cell.strip()))
    else:
        wrong[:] = False
    if wrong.any():
        refuse(
            column,
            cells,
            wrong,
            "is too small for float64, which makes it 0; correct the cell",
            at,
        )
    return values


def refuse_rounded(column: str, cells: pd.Series, at: CellNamer) -> None:
    """Raises ValueError for a name that is a float and may be several integers."""
    wrong = np.array([_is_rounded(cell) for cell in cells], bool)
    if wrong.any():
        problem = "is a float that may stand for several integers; make the column text"
        refuse(column, cells, wrong, problem, at)


def _is_rounded(cell: Any) -> bool:
    return isinstance(cell, (float, np.floating)) and abs(float(cell)) > 2**53


def refuse(
    column: str, cells: pd.Series, wrong: np.ndarray, problem: str, at: CellNamer
) -> None:
    """Raises ValueError that names the first wrong cell."""
    row = int(np.argmax(wrong))
    raise ValueError(f"{at(row, column)}: {quoted(cells.iloc[row])} {problem}")


def refuse_missing(column: str, missing: np.ndarray, at: CellNamer) -> None:
    """Raises ValueError that names the first missing cell, if any is missing."""
    if missing.any():
        raise ValueError(
            f"{at(int(np.argmax(missing)), column)}: has no value, but the schema "
            "says that no value is missing; fill it in, or change the schema"
        )
