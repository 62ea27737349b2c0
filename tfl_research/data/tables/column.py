"""A column of a table, its features, and how its cells are written."""

from __future__ import annotations

import abc
from typing import Optional

import numpy as np
import pandas as pd

from tfl_research.data.tables.cells import CellNamer, row_and_column
from tfl_research.data.tables.notation import Notation


class Column(abc.ABC):
    """One column of a table and its features.

    Attributes:
      column: the name of the table's column.
      notation: how the cells are written; None takes numbers with a decimal point and
        texts as they are.
    """

    column: str
    notation: Optional[Notation]

    @property
    def is_numeric(self) -> bool:
        """Whether the column is encoded from numbers."""
        return True

    def read(self, cells: pd.Series, at: CellNamer = row_and_column) -> pd.Series:
        """Reads the cells' values, by the declared notation if there is one.

        Raises:
          ValueError: a cell does not have this notation; the message names the cell.
        """
        if self.notation is None:
            return cells
        return self.notation.read(self.column, cells, at)

    @abc.abstractmethod
    def names(self) -> tuple[str, ...]:
        """Returns the names of the features, in order."""

    @abc.abstractmethod
    def encode(self, cells: pd.Series, at: CellNamer = row_and_column) -> np.ndarray:
        """Encodes cells as features, float32 `[n, len(names())]`.

        Args:
          cells: the column's cells, `[n]`: numbers, text, or missing (NaN, None).
          at: names a cell in an error.

        Raises:
          ValueError: a cell does not fit the column; the message names the cell.
        """
