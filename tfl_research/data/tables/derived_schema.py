"""Schemas derived from rows: kinds of columns, scales and categories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numpy as np
import pandas as pd

from tfl_research.data.tables.cells import (
    finite_numbers,
    numbers,
    plain,
    shown,
    text_of,
)
from tfl_research.data.tables.column import Column
from tfl_research.data.tables.columns import Categorical, Standardised
from tfl_research.data.tables.comparison import cells as distinct_cells
from tfl_research.data.tables.comparison.finding import refuse_first
from tfl_research.data.tables.comparison.numbers import mixture
from tfl_research.data.tables.files import Silo
from tfl_research.data.tables.schema import Schema

_MOST_CATEGORIES = 100
# Numbers that differ by less, in units of their size, differ by rounding.
_ROUNDING = 1e-12


def derive(
    silos: Sequence[Silo], names: Sequence[str], training: Sequence[pd.DataFrame]
) -> Schema:
    """A schema with the scales and categories of the pooled training rows.

    A column is numeric if all cells of all files are numbers, and categorical if none
    is. A numeric column is standardised by the training rows' mean and standard
    deviation; of a column that is constant there, the constant is subtracted. A
    category that occurs only outside of the training rows becomes zeros. No
    differential-privacy guarantee covers these statistics.

    Args:
      silos: all files.
      names: the feature columns.
      training: the training rows of the clients to train on.

    Raises:
      ValueError: a column has no value in any file, files disagree, a cell of a numeric
        column is no finite number, the values of a column differ by rounding alone, or
        a column has more than 100 categories.
    """
    return Schema(
        tuple(_column(silos, name, [rows[name] for rows in training]) for name in names)
    )


def said(
    silos: Sequence[Silo], columns: Sequence[Column], training: Sequence[pd.DataFrame]
) -> list[str]:
    """A line for each column about which the training rows do not tell enough.

    These are numeric columns that are constant in the training rows alone, and
    categories that occur in other rows alone.

    Args:
      silos: all files.
      columns: as derived.
      training: the training rows.
    """
    lines = []
    for column in columns:
        known = plain(pd.concat([rows[column.column] for rows in training]))
        if isinstance(column, Standardised):
            lines += _constant(silos, column, numbers(known).dropna())
        elif isinstance(column, Categorical):
            lines += _left_out(silos, column)
    return lines


def _constant(
    silos: Sequence[Silo], column: Standardised, known: pd.Series
) -> list[str]:
    if known.nunique() > 1:
        return []
    name = column.column
    for silo in silos:
        values = numbers(plain(silo.frame[name]))
        other = (values.notna() & (values != column.mean)).to_numpy()
        if other.any():
            what = f"constant, {column.mean:g}," if len(known) else "without a value"
            return [
                f"column {name!r} is {what} in the training rows, but not at "
                f"{silo.at(int(np.argmax(other)), name)}: its feature there is the "
                f"number minus {column.mean:g}, not scaled; declare a range in "
                "schema.json"
            ]
    return []


def _left_out(silos: Sequence[Silo], column: Categorical) -> list[str]:
    name, found, first = column.column, set(), ""
    for silo in silos:
        texts = plain(silo.frame[name]).dropna().map(text_of)
        other = (~texts.isin(column.categories)).to_numpy(bool)
        found.update(texts[other])
        if other.any() and not first:
            row = silo.frame.index.get_loc(texts.index[int(np.argmax(other))])
            first = silo.at(row, name)
    if not found:
        return []
    listed = ", ".join(map(shown, sorted(found)[:5]))
    return [
        f"{first}: no training row has {listed}{', ...' if len(found) > 5 else ''}: "
        "all features of the level are 0; declare the column's categories in "
        "schema.json"
    ]


def changed(names: Sequence[str], training: Sequence[pd.DataFrame]) -> str:
    """Constant columns whose deviation is not 0 by rounding: it was their scale before.

    Args:
      names: the feature columns.
      training: the training rows.
    """
    found = []
    for name in names:
        cells = numbers(plain(pd.concat([rows[name] for rows in training]))).dropna()
        if cells.nunique() == 1 and float(cells.std(ddof=0)) != 0:
            found.append(name)
    return f"constant columns {found} are not scaled" if found else ""


def is_numeric(silos: Sequence[Silo], name: str) -> Optional[bool]:
    """Whether the column holds numbers in all files; None if no cell has a value.

    Raises:
      ValueError: numbers and texts; names a cell and the choices.
    """
    column = distinct_cells.of_column(silos, name)
    if not column.cells:
        return None
    refuse_first(mixture(column))
    return all(cell.is_number for cell in column.cells)


def _column(silos: Sequence[Silo], name: str, training: Sequence[pd.Series]) -> Column:
    whole = [plain(silo.frame[name]) for silo in silos]
    if all(cells.isna().all() for cells in whole):
        raise ValueError(
            f"column {name!r} has no value in any file; name it in drop_columns"
        )
    numeric = all((numbers(c).notna() == c.notna()).all() for c in whole)
    if not numeric and any(numbers(c).notna().any() for c in whole):
        is_numeric(silos, name)  # Refuses numbers among texts.
    missing = any(bool(cells.isna().any()) for cells in whole)
    training = [plain(cells) for cells in training]
    if numeric:
        for silo, cells in zip(silos, whole):
            # Before the mean, which an infinite value would spoil.
            finite_numbers(name, cells, silo.at)
        values = numbers(pd.concat(training)).dropna()
        mean, deviation = _scale(name, values)
        _check_apart(name, numbers(pd.concat(whole)).dropna(), mean, deviation)
        return Standardised(name, mean, deviation, may_be_missing=missing)
    categories: set[str] = set()
    for cells in training:
        categories.update(cells.dropna().map(text_of))
    if len(categories) > _MOST_CATEGORIES:
        raise ValueError(
            f"column {name!r} has {len(categories)} categories; at most "
            f"{_MOST_CATEGORIES} are encoded; if the column holds identifiers, name "
            "it in drop_columns"
        )
    return Categorical(
        name, tuple(sorted(categories)), unknown="zeros", may_be_missing=missing
    )


def _check_apart(name: str, values: pd.Series, mean: float, deviation: float) -> None:
    """Raises ValueError where, beside a far number, others are the same in float32."""
    distinct = np.unique(values.to_numpy())
    scaled = ((distinct - mean) / deviation).astype(np.float32)
    if 2 * len(np.unique(scaled)) < len(distinct):
        far = distinct[np.argmax(np.abs(distinct))]
        raise ValueError(
            f"column {name!r}: {far:g} is so far from the other numbers that most "
            "of them become equal in float32; correct the files, or declare a range in "
            f'schema.json, with "missing_values": ["", "{far:g}"] if {far:g} stands '
            "for a missing value"
        )


def _scale(name: str, values: pd.Series) -> tuple[float, float]:
    """Mean and deviation; (constant, 1) of a column that is constant."""
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if low == high:
        # Their mean may differ from them by rounding, and the deviation from 0.
        return low, 1.0
    mean, deviation = float(values.mean()), float(values.std(ddof=0))
    if not deviation > _ROUNDING * max(abs(low), abs(high)):
        raise ValueError(
            f"column {name!r}: the numbers of the training rows, {low!r} to {high!r}, "
            "differ by rounding alone, so that they give no scale for other rows; "
            "declare a minimum and maximum in schema.json, or give "
            f"drop_columns={name}"
        )
    if not np.isfinite(mean):
        raise ValueError(
            f"column {name!r}: the mean of the training rows is {mean}, beyond "
            "float64; declare a minimum and maximum in schema.json, or give "
            f"drop_columns={name}"
        )
    return mean, deviation
