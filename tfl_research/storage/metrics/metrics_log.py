"""Writes metrics.csv: a row for each round."""

from __future__ import annotations

import csv
import io
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Optional, Union

from tfl_research.errors import UserError
from tfl_research.storage.files import atomic
from tfl_research.storage.files.appended_file import AppendedFile
from tfl_research.storage.metrics import kept_rows

Cell = Union[int, float, str, None]

# Columns of every metrics.csv, in this order, except for columns that the run
# withholds; a run's further columns follow.
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
    """Formats a cell: "" for None, "nan" for undefined, "inf" for no bound."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        # Nine digits distinguish any two float32 numbers.
        return f"{cell:.9g}"
    return str(cell)


class MetricsLog:
    """Appends rounds to metrics.csv, each at once, and keeps a copy of the rows.

    Opening drops the rows after the checkpoint from which the run resumes, and a row
    that a kill cut off. So the file of a resumed run equals the file of an
    uninterrupted run in every column but `round_seconds`. A damaged file is made again
    from the copy; see `kept_rows`. A warning names the rows that cannot be made again.

    Attributes:
      dropped_rounds: the rounds whose rows were dropped.

    Args:
      path: path of the file, which is made if it is missing.
      completed_rounds: number of rounds in the checkpoint; later rows are dropped.
      shows: returns whether the run releases a column. The file does not have withheld
        columns, even if an earlier start wrote them.
      copy: path of the copy; None for no copy.
      digest: `digest` of the log when the checkpoint was written; None if the
        checkpoint has no digest.

    Raises:
      UserError: the file at `path` lacks a column, and no copy has its rows.
      OSError: a file cannot be written.
    """

    def __init__(
        self,
        path: pathlib.Path,
        *,
        completed_rounds: int = 0,
        shows: Callable[[str], bool] = lambda name: True,
        copy: Optional[pathlib.Path] = None,
        digest: Optional[str] = None,
    ):
        self._path = path
        self._copy_path = copy
        self._header: list[str] = [name for name in COLUMNS if shows(name)]
        self.dropped_rounds: tuple[int, ...] = ()
        copied = {} if copy is None else kept_rows.read_copy(copy)
        rows: list[kept_rows.Row] = []
        if path.exists() or completed_rounds:
            rows = self._restored(completed_rounds, copied, digest, shows)
        self._digest = kept_rows.Digest(COLUMNS[-1])
        for row in rows:
            self._digest.add(row)
        self._last_round = completed_rounds
        self._file = self._written(rows)
        self._copy = self._written_copy(rows)

    def _restored(
        self,
        completed: int,
        copied: Mapping[int, kept_rows.Row],
        digest: Optional[str],
        shows: Callable[[str], bool],
    ) -> list[kept_rows.Row]:
        """Reads the rows of the file and of its copy."""
        table = kept_rows.Table(self._header, {}, False)
        if self._path.exists():
            table = kept_rows.read_table(self._path, COLUMNS)
        found = kept_rows.restored(
            self._path, table, copied, completed, digest, COLUMNS[-1]
        )
        unknown = [name for name in self._header if name not in table.header]
        copies = all(int(row["round"]) in copied for row in found.rows)
        if unknown and not (found.rows and copies):
            raise UserError(
                f"{self._path} lacks the column {unknown[0]}; restore the file, or "
                "move it away to go on without the rounds in it"
            )
        for problem in found.problems:
            warnings.warn(problem, stacklevel=3)
        later = {n for n in (*table.rows, *copied) if n > completed}
        self.dropped_rounds = tuple(sorted(later))
        names = dict.fromkeys(
            [*table.header, *(name for row in found.rows for name in row)]
        )
        if unknown or found.problems:
            # The header itself may be damaged.
            known = {*COLUMNS, *(name for row in found.rows for name in row)}
            further = [n for n in names if n in known and n not in COLUMNS]
            names = dict.fromkeys([*COLUMNS[:-1], *further, COLUMNS[-1]])
        self._header = [name for name in names if shows(name)]
        return self._with_columns(found.rows)

    def _with_columns(self, rows: Sequence[kept_rows.Row]) -> list[kept_rows.Row]:
        """Returns rows with the cells of the file's columns, in their order."""
        return [
            {name: row[name] for name in self._header if name in row} for row in rows
        ]

    @property
    def columns(self) -> Sequence[str]:
        """The columns of the file, in its order."""
        return tuple(self._header)

    @property
    def rows(self) -> Sequence[Mapping[str, str]]:
        """All rows as text, without empty cells and in the file's order.

        Rows are read from the file: in memory they would take gigabytes in long runs.
        """
        return self._with_columns(self._read_back().rows)

    def _read_back(self) -> kept_rows.Restored:
        """Reads the written rows; from the copy if somebody changed the file."""
        table = kept_rows.Table(self._header, {}, False)
        if self._path.exists():
            table = kept_rows.read_table(self._path, COLUMNS)
        copied: Mapping[int, kept_rows.Row] = {}
        if self._copy_path is not None and not self._file.is_whole():
            copied = kept_rows.read_copy(self._copy_path)
        return kept_rows.restored(
            self._path, table, copied, self._last_round, self.digest, COLUMNS[-1]
        )

    @property
    def digest(self) -> str:
        """SHA-256 of all rows without their times, for checkpoints."""
        return self._digest.text()

    def append(self, row: Mapping[str, Cell]) -> None:
        """Adds a round; new columns widen the file.

        Raises:
          OSError: the row could not be written; the file is unchanged.
        """
        cells = {name: _text(cell) for name, cell in row.items() if cell is not None}
        new = [name for name in cells if name not in self._header]
        before = self._read_back().rows if new else []
        self._digest.add(cells)
        self._last_round = int(cells["round"])
        if new:
            # The time stays the last column.
            last = -1 if self._header[-1] == COLUMNS[-1] else len(self._header)
            self._header[last:last] = new
            self._file.close()
            self._file = self._written([*before, cells])
        else:
            self._file.append(_lines(self._header, [cells]).encode())
        if self._copy is not None:
            self._copy.append(kept_rows.copy_line(cells))

    def sync(self) -> None:
        """Makes the rows durable; call it before a checkpoint that needs them.

        A file that somebody changed while the run went on is written again, with a
        warning, which also names the rows that cannot be made again.
        """
        if not self._file.is_whole():
            warnings.warn(
                f"{self._path} was changed or removed while the run used it; the run "
                "writes it again",
                stacklevel=2,
            )
            found = self._read_back()
            for problem in found.problems:
                warnings.warn(problem, stacklevel=2)
            self._file.close()
            self._file = self._written(found.rows)
        if self._copy is not None and not self._copy.is_whole():
            self._copy.close()
            self._copy = self._written_copy(self._read_back().rows)
        self._file.sync()

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        if self._copy is not None:
            self._copy.close()

    def _written(self, rows: Sequence[kept_rows.Row]) -> AppendedFile:
        text = _lines(self._header, [dict(zip(self._header, self._header))])
        text += _lines(self._header, rows)
        atomic.write(self._path, text.encode())
        return AppendedFile(self._path)

    def _written_copy(self, rows: Sequence[kept_rows.Row]) -> Optional[AppendedFile]:
        if self._copy_path is None:
            return None
        content = b"".join(kept_rows.copy_line(row) for row in rows)
        atomic.write(self._copy_path, content)
        return AppendedFile(self._copy_path)


def _lines(header: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(
        text, header, restval="", extrasaction="ignore", lineterminator="\n"
    )
    writer.writerows(rows)
    return text.getvalue()
