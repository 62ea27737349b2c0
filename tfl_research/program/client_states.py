"""The table of what clients keep between the rounds in which they take part."""

from __future__ import annotations

import pathlib
import sqlite3
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from tfl_research.data import Cohort
from tfl_research.program.errors import UserError

_SCHEMA = """
create table if not exists states (
  client text not null, round integer not null, state blob not null,
  primary key (client, round)
) without rowid
"""
_LATEST = "select state from states where client = ? order by round desc limit 1"
_OUTDATED = """
delete from states where round < (
  select max(newer.round) from states as newer
  where newer.client = states.client and newer.round <= ?
)
"""


class ClientStateSpec(Protocol):
    """What the table has to know; see `processes.ClientStateSpec`."""

    @property
    def initial(self) -> np.ndarray: ...

    @property
    def capacity(self) -> int: ...


class ClientStates:
    """Every client's state, float32 `[d]`, in an SQLite file.

    Only clients that took part have rows, so that the table costs what was trained and
    not what is registered; what is not asked for stays on disk. A row carries the round
    it was written in: going back to a checkpoint deletes what came later, and rows are
    dropped once every checkpoint that is kept is newer than their successors.

    Args:
      path: the file; made when missing. ":memory:" keeps the table in memory.
      spec: initial state, and how many clients a cohort may have.

    Raises:
      UserError: the file is no such table.
    """

    def __init__(self, path: pathlib.Path | str, spec: ClientStateSpec):
        self._path = path
        self._spec = spec
        try:
            # Rounds run in one thread, chunks are gathered in several.
            self._database = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False
            )
            # A killed process loses nothing; `sync` is for a machine that stops.
            self._database.execute("pragma journal_mode = wal")
            self._database.execute("pragma synchronous = normal")
            self._database.execute(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"{path} is no table of client states ({error}); move it away together "
                "with the checkpoints, or choose another --output_dir"
            ) from error

    def attach(self, cohort: Cohort) -> Cohort:
        """The cohort, its clients handed their states and positions.

        Raises:
          ValueError: more clients than the process has room for.
        """
        if len(cohort) > self._spec.capacity:
            raise ValueError(
                f"a cohort has {len(cohort)} clients, the process has room for the "
                f"states of {self._spec.capacity}; build it with a larger "
                "max_cohort_size"
            )
        positions = np.arange(len(cohort), dtype=np.int32)
        return cohort.with_members(position=positions).with_loader(
            "client_state", self.rows
        )

    def rows(self, client_ids: Sequence[str]) -> np.ndarray:
        """float32 `[clients, d]`, the clients' states; initial ones for newcomers."""
        initial = self._spec.initial
        states = np.empty((len(client_ids), len(initial)), np.float32)
        for row, client_id in enumerate(client_ids):
            # A cursor of its own: several threads gather chunks at once.
            found = self._database.cursor().execute(_LATEST, (client_id,)).fetchone()
            states[row] = initial if found is None else _decoded(found[0], len(initial))
        return states

    def store(self, round_number: int, client_ids: Sequence[str], rows: Any) -> None:
        """Keeps a round's new states.

        Args:
          round_number: from 1; rows of the same round are replaced.
          client_ids: the cohort.
          rows: float32 `[at least clients, d]`, in the cohort's order.
        """
        table = np.asarray(rows, np.float32)
        self._database.execute("begin")
        self._database.executemany(
            "insert or replace into states values (?, ?, ?)",
            (
                (client_id, round_number, table[row].astype("<f4").tobytes())
                for row, client_id in enumerate(client_ids)
            ),
        )
        self._database.execute("commit")

    def restore(self, round_number: int, num_clients: int) -> None:
        """Goes back to the states after a round.

        Args:
          round_number: of the checkpoint that the run goes on from; 0 for none.
          num_clients: clients that had states then.

        Raises:
          UserError: the table does not hold as many.
        """
        try:
            self._database.execute(
                "delete from states where round > ?", (round_number,)
            )
            found = self.num_clients
        except sqlite3.DatabaseError as error:
            raise UserError(f"{self._path} is damaged ({error})") from error
        if found != num_clients:
            raise UserError(
                f"{self._path} holds the states of {found} clients, the checkpoint of "
                f"round {round_number} counts on {num_clients}; restore the file, or "
                "choose another --output_dir"
            )

    def sync(self, oldest_checkpoint: int) -> None:
        """Makes the rows durable, and drops those that no checkpoint needs.

        Args:
          oldest_checkpoint: the oldest round that the run may go back to.
        """
        self._database.execute(_OUTDATED, (oldest_checkpoint,))
        self._database.execute("pragma wal_checkpoint(truncate)")

    @property
    def num_clients(self) -> int:
        """Clients that have a state other than the initial one."""
        query = "select count(distinct client) from states"
        return int(self._database.execute(query).fetchone()[0])

    def close(self) -> None:
        """Closes the file."""
        self._database.close()


def _decoded(blob: bytes, size: int) -> np.ndarray:
    state = np.frombuffer(blob, "<f4")
    if len(state) != size:
        raise UserError(
            f"a client's stored state has {len(state)} numbers, this model's has "
            f"{size}; choose another --output_dir"
        )
    return state
