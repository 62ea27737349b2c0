"""metrics.csv: one row for each round."""

from __future__ import annotations

import csv
import io
import os
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Union

from tfl_research.errors import UserError
from tfl_research.storage import atomic

Cell = Union[int, float, str, None]

# Columns of every metrics.csv, in this order, but for columns that the run withholds;
# a run's further columns follow.
COLUMNS = (
    "round",
    "cohort_size",
    "examples",
    "excluded_clients",
    "train_loss",
    "train_accuracy",
    "eval_loss",
    "eval_accuracy",
    "eval_auc",
    "eval_client_mean_accuracy",
    "eval_client_worst_decile_accuracy",
    "eval_client_worst_accuracy",
    "held_out_loss",
    "held_out_accuracy",
    "held_out_auc",
    "clip_norm",
    "noise_multiplier",
    "epsilon",
    "delta",
    "client_learning_rate",
    "server_learning_rate",
    "round_seconds",
)


def _text(cell: Cell) -> str:
    """The text of a cell: "" for None, "nan" for undefined, "inf" for no bound."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        # Nine digits tell any two float32 apart.
        return f"{cell:.9g}"
    return str(cell)


class MetricsLog:
    """Appends rounds to metrics.csv, and flushes each.

    Opening drops the rows after the checkpoint from which the run resumes, and a row
    that a kill cut off. So the file of a resumed run equals the file of an
    uninterrupted run in every column but `round_seconds`.

    Attributes:
      dropped_rounds: the rounds whose rows were dropped.

    Args:
      path: the file; made when missing.
      completed_rounds: rounds of the checkpoint; later rows are dropped.
      shows: whether the run gives out a column. A withheld column is absent from the
        file, also where an earlier start wrote it.

    Raises:
      UserError: the file at `path` lacks a column.
    """

    def __init__(
        self,
        path: pathlib.Path,
        *,
        completed_rounds: int = 0,
        shows: Callable[[str], bool] = lambda name: True,
    ):
        self._path = path
        self._header: list[str] = [name for name in COLUMNS if shows(name)]
        kept: list[dict[str, str]] = []
        self.dropped_rounds: tuple[int, ...] = ()
        if path.exists():
            header, rows = _read(path, self._header)
            self._header = [name for name in header if shows(name)]
            kept = [row for row in rows if int(row["round"]) <= completed_rounds]
            self.dropped_rounds = tuple(int(row["round"]) for row in rows[len(kept) :])
        missing = completed_rounds - len(kept)
        if missing > 0:
            warnings.warn(
                f"{path} lacks {missing} of the {completed_rounds} rounds completed",
                stacklevel=2,
            )
        self._rewrite(kept)

    @property
    def columns(self) -> Sequence[str]:
        """The columns of the file, in its order."""
        return tuple(self._header)

    @property
    def rows(self) -> Sequence[Mapping[str, str]]:
        """All rows, as text, without empty cells and in the file's order.

        They are read from the file: in memory, they would take gigabytes in long runs.
        """
        return _read(self._path, self._header)[1]

    def append(self, row: Mapping[str, Cell]) -> None:
        """Adds a round; new columns widen the file."""
        cells = {name: _text(cell) for name, cell in row.items() if cell is not None}
        new = [name for name in cells if name not in self._header]
        if new:
            rows = [*self.rows, cells]
            self._file.close()
            # The time stays the last column.
            last = -1 if self._header[-1] == COLUMNS[-1] else len(self._header)
            self._header[last:last] = new
            self._rewrite(rows)
            return
        self._file.write(_lines(self._header, [cells]))
        self._file.flush()

    def sync(self) -> None:
        """Makes the rows durable; call it before a checkpoint that needs them."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _rewrite(self, rows: Sequence[Mapping[str, str]]) -> None:
        text = _lines(self._header, [dict(zip(self._header, self._header))])
        text += _lines(self._header, rows)
        atomic.write(self._path, text.encode())
        self._file = self._path.open("a", encoding="utf-8", newline="")


def _lines(header: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(
        text, header, restval="", extrasaction="ignore", lineterminator="\n"
    )
    writer.writerows(rows)
    return text.getvalue()


def _read(
    path: pathlib.Path, needed: Sequence[str]
) -> tuple[list[str], list[dict[str, str]]]:
    """Header, and the rows that are complete."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        lost = next((name for name in needed if name not in header), None)
        if lost is not None:
            raise UserError(
                f"{path} has no column {lost}; restore it, or move it away to go on "
                "without the rounds in it"
            )
        rows = [
            {name: cell for name, cell in zip(header, cells) if cell != ""}
            for cells in reader
            if len(cells) == len(header)
        ]
    return header, rows
