"""Schemas derived from rows: kinds of columns, scales and categories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import pandas as pd

from tfl_research.data.tables.cells import finite_numbers, numbers, text_of
from tfl_research.data.tables.columns import Categorical, Column, Standardised
from tfl_research.data.tables.files import Silo
from tfl_research.data.tables.schema import Schema

_MOST_CATEGORIES = 100


def derive(
    silos: Sequence[Silo], names: Sequence[str], training: Sequence[pd.DataFrame]
) -> Schema:
    """A schema with the scales and categories of the pooled training rows.

    The majority of a column's cells decides whether the column is numeric or
    categorical in a file; files must agree. A numeric column is standardised by the
    training rows' mean and standard deviation. A category that occurs only outside of
    the training rows becomes zeros. No differential-privacy guarantee covers these
    statistics.

    Args:
      silos: all files.
      names: the feature columns.
      training: the training rows of the clients to train on.

    Raises:
      ValueError: a column without a value in any file, files that disagree, a cell
        that is no finite number in a numeric column, or more than 100 categories.
    """
    return Schema(
        tuple(_column(silos, name, [rows[name] for rows in training]) for name in names)
    )


def _holds_text(cells: pd.Series) -> Optional[bool]:
    """Whether most cells are text; None when all are missing."""
    present = int(cells.notna().sum())
    return 2 * int(numbers(cells).notna().sum()) <= present if present else None


def is_numeric(silos: Sequence[Silo], name: str) -> Optional[bool]:
    """Whether the column holds numbers in all files; None if no cell has a value.

    The majority of a file's cells decides.

    Raises:
      ValueError: the files disagree; names a cell.
    """
    kinds = [(silo, _holds_text(silo.frame[name])) for silo in silos]
    texts = [silo for silo, text in kinds if text]
    numeric = [silo for silo, text in kinds if text is False]
    if not texts and not numeric:
        return None
    if texts and numeric:
        cells = texts[0].frame[name]
        row = int((cells.notna() & numbers(cells).isna()).to_numpy().argmax())
        raise ValueError(
            f"{texts[0].at(row, name)}: {cells.iloc[row]!r} is text, but the column "
            f"holds numbers in {numeric[0].path}; make the files agree, or declare "
            "the column's categories in schema.json"
        )
    return bool(numeric)


def _column(silos: Sequence[Silo], name: str, training: Sequence[pd.Series]) -> Column:
    numeric = is_numeric(silos, name)
    if numeric is None:
        raise ValueError(
            f"column {name!r} has no value in any file; name it in drop_columns"
        )
    missing = any(bool(silo.frame[name].isna().any()) for silo in silos)
    if numeric:
        for silo in silos:
            # Before the mean, which an infinite value would spoil.
            finite_numbers(name, silo.frame[name], silo.at)
        values = numbers(pd.concat(training)).dropna()
        mean = float(values.mean()) if len(values) else 0.0
        deviation = float(values.std(ddof=0)) if len(values) else 0.0
        return Standardised(name, mean, deviation or 1.0, may_be_missing=missing)
    categories: set[str] = set()
    for cells in training:
        categories.update(cells.dropna().map(text_of))
    if len(categories) > _MOST_CATEGORIES:
        raise ValueError(
            f"column {name!r} has {len(categories)} categories, at most "
            f"{_MOST_CATEGORIES} are encoded; if it is an identifier, name it in "
            "drop_columns"
        )
    return Categorical(
        name, tuple(sorted(categories)), unknown="zeros", may_be_missing=missing
    )
