"""The schema of a table: its columns, and the classes of its label."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Optional

import numpy as np
import pandas as pd

from tfl_research.data.arrays.listed import listed
from tfl_research.data.cohort import Examples
from tfl_research.data.tables.cells import CellNamer, row_and_column, text_of
from tfl_research.data.tables.column import Column
from tfl_research.data.tables.label import Label


@dataclasses.dataclass(frozen=True)
class Schema:
    """The columns of a table and their encoding as features.

    A schema is declared in code (`Schema(columns)`), read from a file
    (`schema_file.read`) or derived from training rows (`derived_schema.derive`).

    Attributes:
      columns: every feature column, in the order of the features.
      classes: names of the label's classes in order, or None if not declared.
      label: how the label is declared; None if at most its classes are declared.

    Raises:
      ValueError: there are no columns, two columns have the same name, or the columns
        or classes are a set, which has no order.

    Example:
      >>> import pandas as pd
      >>> from tfl_research.data.tables import Categorical, Numeric, Schema
      >>> schema = Schema((Numeric("age", 0, 100), Categorical("sex", ("F", "M"))))
      >>> schema.feature_names
      ('age', 'sex=F', 'sex=M')
      >>> schema.encode(pd.DataFrame({"age": [50, 75], "sex": ["M", "F"]})).tolist()
      [[0.0, 0.0, 1.0], [0.5, 1.0, 0.0]]
    """

    columns: tuple[Column, ...]
    classes: Optional[tuple[str, ...]] = None
    label: Optional[Label] = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", listed("columns", self.columns))
        for column in self.columns:
            if not isinstance(column, Column):
                raise ValueError(
                    f"columns must be declared, as by Numeric(...), got {column!r}"
                )
        if self.classes is not None:
            classes = map(text_of, listed("classes", self.classes))
            object.__setattr__(self, "classes", tuple(classes))
        names = self.column_names
        if not names or len(set(names)) < len(names):
            raise ValueError(f"expected columns of distinct names, got {names}")

    @property
    def digest(self) -> str:
        """SHA-256 of all facts on which a row's encoding depends, in hex."""
        text = repr(self)
        notations = [c.notation for c in self.columns]
        if self.label is not None or any(notations):
            text += repr((notations, self.label))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the table's columns that are encoded."""
        return tuple(column.column for column in self.columns)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of all features, in the order of `encode`."""
        return tuple(name for column in self.columns for name in column.names())

    def encode(self, table: pd.DataFrame, at: CellNamer = row_and_column) -> np.ndarray:
        """Encodes a table as features, float32 `[rows, len(feature_names)]`.

        Args:
          table: a table with every column of the schema; other columns are not read.
          at: names a cell in an error.

        Raises:
          ValueError: a column is missing, or a value cannot be encoded; the message
            names the cell.
        """
        for name in self.column_names:
            if name not in table:
                raise ValueError(
                    f"the table has no column {name!r}; it has "
                    f"{', '.join(map(str, table.columns))}"
                )
        features = np.empty((len(table), len(self.feature_names)), np.float32)
        start = 0
        for column in self.columns:
            part = column.encode(table[column.column], at)
            features[:, start : start + part.shape[1]] = part
            start += part.shape[1]
        return features


def by_client(x: np.ndarray, y: np.ndarray, clients: pd.Series) -> dict[str, Examples]:
    """Groups rows by client, in the order of the clients' names.

    Args:
      x: features `[rows, ...]`.
      y: labels `[rows]`.
      clients: `[rows]`, the client of each row.

    Raises:
      ValueError: a row's client is missing.
    """
    codes, names = pd.factorize(clients, sort=True)
    if (codes < 0).any():
        raise ValueError(
            f"row {int(np.argmax(codes < 0))} has no client; give every row the id of "
            "its client"
        )
    rows = (np.flatnonzero(codes == code) for code in range(len(names)))
    return {
        str(name): {"x": x[mine], "y": y[mine].astype(np.int32)}
        for name, mine in zip(names, rows)
    }
