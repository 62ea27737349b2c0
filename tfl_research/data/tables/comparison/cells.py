"""The distinct cells of a column, by file."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tfl_research.data.tables import written
from tfl_research.data.tables.cells import text_of
from tfl_research.data.tables.files import Silo

TYPED_DATE = "a typed date"


@dataclasses.dataclass(frozen=True)
class Cell:
    """A distinct cell of a column.

    Attributes:
      raw: as in the file.
      text: without the space around it; the text of a number or a truth value.
      kind: see `written`, or `TYPED_DATE`.
      silo: a file with the cell.
      row: the first row there.
      count: rows of the file with the cell.
    """

    raw: Any
    text: str
    kind: str
    silo: Silo
    row: int
    count: int

    @property
    def is_number(self) -> bool:
        """Whether the cell is plainly a number."""
        return self.kind in written.NUMBERS


@dataclasses.dataclass(frozen=True)
class ColumnCells:
    """A column's distinct cells in each file, without missing cells.

    Attributes:
      column: the column.
      by_silo: cells by file, in the order of the files' rows; without words for "no
        value".
      words: the words for "no value", but for the empty cell.
    """

    column: str
    by_silo: tuple[tuple[Cell, ...], ...]
    words: tuple[Cell, ...]

    @property
    def cells(self) -> list[Cell]:
        """All cells of all files."""
        return [cell for cells in self.by_silo for cell in cells]

    def at(self, cell: Cell) -> str:
        """Names the cell's place."""
        return cell.silo.at(cell.row, self.column)


def _kind(raw: Any, text: str) -> str:
    if isinstance(raw, str):
        return written.kind(text)
    if isinstance(raw, (bool, np.bool_)):
        return written.TRUTH
    if isinstance(raw, (datetime.date, datetime.time)):
        return TYPED_DATE
    if isinstance(raw, float) and not math.isfinite(raw):
        return written.NOT_FINITE
    return written.INTEGER if isinstance(raw, int) else written.DECIMAL


def of_column(silos: Sequence[Silo], column: str) -> ColumnCells:
    """The distinct cells of a column."""
    by_silo, words = [], []
    for silo in silos:
        present = []
        for cell in _of_silo(silo, column):
            if cell.kind != written.MISSING_WORD:
                present.append(cell)
            elif cell.text:
                words.append(cell)
        by_silo.append(tuple(present))
    return ColumnCells(column, tuple(by_silo), tuple(words))


def _of_silo(silo: Silo, column: str) -> list[Cell]:
    cells = silo.frame[column]
    keys: Any = cells
    is_text = pd.api.types.infer_dtype(cells, skipna=False) == "string"
    if not is_text:
        # True, 1 and 1.0 are the same to pandas.
        keys = pd.Series([(type(c).__name__, c) for c in cells], dtype=object)
    codes, distinct = pd.factorize(keys)
    raws = list(distinct) if is_text else [raw for _, raw in distinct]
    counts = np.bincount(codes, minlength=len(distinct))
    rows = np.full(len(distinct), len(cells))
    np.minimum.at(rows, codes, np.arange(len(cells)))
    found = []
    for raw, row, count in zip(raws, rows.tolist(), counts.tolist()):
        if raw is None:
            continue
        text = raw.strip() if isinstance(raw, str) else text_of(raw)
        found.append(Cell(raw, text, _kind(raw, text), silo, row, count))
    return found
