"""Keeps the totals of the last rounds, so that a resumed round is the same round."""

from __future__ import annotations

import dataclasses
import io
import json
import pathlib
import sqlite3
import zipfile
from collections.abc import Sequence
from typing import Optional

import numpy as np

from tfl_research.errors import UserError
from tfl_research.storage.files import atomic

_SCHEMA = """
create table if not exists participants (
  round integer not null, client text not null, primary key (round, client)
)
"""


@dataclasses.dataclass(frozen=True)
class Total:
    """The sum of the reports of a round's clients.

    Attributes:
      client_ids: the clients that are in the sum.
      tensors: the sum, as the process accumulates it.
    """

    client_ids: tuple[str, ...]
    tensors: Sequence[np.ndarray]


class KeptTotals:
    """Keeps the totals of the last rounds, and the clients of each round, in files.

    A total has no noise yet. Only the owner of the run can read its file, and the file
    is removed when no checkpoint needs it.

    Attributes:
      attempt: number of the run's attempt. Totals of other attempts are not read.

    Args:
      folder: the folder of the files; a missing folder is made.
      rounds: how many of the last rounds are kept.
    """

    def __init__(self, folder: pathlib.Path, rounds: int):
        self._folder = folder
        self._rounds = rounds
        # Totals belong to an attempt of the run. A new attempt has other noise, and so
        # other models, to which the old totals do not belong.
        self.attempt = 0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "participants.sqlite"
        try:
            self._database = sqlite3.connect(path)
            # With a write-ahead log, a round waits for one write to disk, not four.
            self._database.execute("pragma journal_mode = wal")
            self._database.execute("pragma synchronous = full")
            self._database.execute(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"{path}: cannot be read ({error}); restore it, or choose another "
                "--output_dir"
            ) from error

    def read(self, round_number: int, asked: Sequence[str]) -> Optional[Total]:
        """The total of a round, or None.

        Raises:
          UserError: the file is damaged, or belongs to another cohort.
        """
        path = self._path(round_number)
        if not path.exists():
            return None
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                record = json.loads(bytes(file["record"]).decode())
                tensors = [file[f"tensor_{i}"] for i in range(record["tensors"])]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{path}: cannot be read ({type(error).__name__}); restore it, or "
                "choose another --output_dir"
            ) from error
        if record.get("attempt", 0) != self.attempt:
            return None
        if record["asked"] != list(asked):
            raise UserError(
                f"{path}: the round had other clients when it was first executed; "
                "choose another --output_dir"
            )
        return Total(tuple(record["clients"]), tensors)

    def write(self, round_number: int, asked: Sequence[str], total: Total) -> None:
        """Keeps the total of a round durably, and drops totals that are too old."""
        record = {
            "asked": list(asked),
            "attempt": self.attempt,
            "clients": list(total.client_ids),
            "tensors": len(total.tensors),
        }
        content = io.BytesIO()
        named = {f"tensor_{i}": value for i, value in enumerate(total.tensors)}
        text = np.frombuffer(json.dumps(record).encode(), np.uint8)
        np.savez(content, record=text, **named)
        atomic.write(self._path(round_number), content.getvalue(), mode=0o600)
        for path in self._folder.glob("round_*.npz"):
            if int(path.stem.partition("_")[2]) <= round_number - self._rounds:
                path.unlink()

    def state_rounds(
        self, client_ids: Sequence[str], before: Optional[int] = None
    ) -> dict[str, int]:
        """Returns the last round with a report of each client, by client; 0 for none.

        Args:
          client_ids: the clients.
          before: only rounds before this one count; by default all count.
        """
        rows = self._database.execute(
            "select client, max(round) from participants "
            "where round < coalesce(?, round + 1) group by client",
            (before,),
        )
        last = dict(rows.fetchall())
        return {client_id: int(last.get(client_id, 0)) for client_id in client_ids}

    def go_back(self, round_number: int) -> None:
        """Drops durably the record of whose reports count in later rounds."""
        with self._database:
            self._database.execute(
                "delete from participants where round > ?", (round_number,)
            )

    def note(self, round_number: int, client_ids: Sequence[str]) -> None:
        """Records durably whose reports count in a round; drops later rounds."""
        with self._database:
            self._database.execute(
                "delete from participants where round >= ?", (round_number,)
            )
            self._database.executemany(
                "insert into participants values (?, ?)",
                [(round_number, client_id) for client_id in client_ids],
            )

    def close(self) -> None:
        """Closes the files."""
        self._database.close()

    def _path(self, round_number: int) -> pathlib.Path:
        return self._folder / f"round_{round_number:08d}.npz"
