"""The table of clients' states between the rounds in which they take part."""

from __future__ import annotations

import collections
import os
import pathlib
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Protocol

import numpy as np

from tfl_research.data import Cohort
from tfl_research.errors import UserError

_SCHEMA = """
create table if not exists states (
  client text not null, round integer not null, checksum integer not null,
  state blob not null, primary key (client, round)
) without rowid
"""
_LATEST = """
select checksum, state from states where client = ? and round <= ?
order by round desc limit 1
"""
_ANY_ROUND = 2**62
# SQLite takes the checksum of the row with the latest round.
_EXTENT = """
select count(*), coalesce(sum(latest), 0), coalesce(sum(mark), 0) from (
  select max(round) as latest, row_mark(client, max(round), checksum) as mark
  from states group by client
)
"""
_OUTDATED = """
delete from states where round < (
  select max(newer.round) from states as newer
  where newer.client = states.client and newer.round <= ?
)
"""


class ClientStateSpec(Protocol):
    """The part of `processes.ClientStateSpec` that the table needs."""

    @property
    def initial(self) -> np.ndarray: ...

    @property
    def capacity(self) -> int: ...


class ClientStates:
    """Every client's state, float32 `[d]`, in an SQLite file.

    Only clients that took part have rows: the size depends on the trained clients, not
    on the registered clients. Rows stay on disk until they are read. A row has its
    round: going back to a checkpoint deletes the rows of later rounds, and a row is
    dropped when every checkpoint is at least as late as the client's next row. A row
    also has the CRC-32 of the state, since SQLite does not check states. Checkpoints
    have the table's `extent`, which shows whether each client has the right state.

    Args:
      path: path of the file, which is made if it is missing. ":memory:" keeps the table
        in memory.
      spec: the initial state, and the largest number of clients in a cohort.

    Raises:
      UserError: the file is not such a table.
    """

    def __init__(self, path: pathlib.Path | str, spec: ClientStateSpec):
        self._path = path
        self._spec = spec
        try:
            # Rounds run in one thread, chunks are gathered in several.
            self._database = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False
            )
            # Clients' states stay with the owner of the run.
            if str(path) != ":memory:":
                os.chmod(path, 0o600)
            # A killed process loses no stored rows; `sync` is for a machine that stops.
            self._database.execute("pragma journal_mode = wal")
            self._database.execute("pragma synchronous = normal")
            self._database.execute(_SCHEMA)
            self._database.create_function("row_mark", 3, _mark, deterministic=True)
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"{path} is not a table of client states ({error}); move it away "
                "together with the checkpoints, or choose another --output_dir"
            ) from error

    def attach(self, cohort: Cohort) -> Cohort:
        """Returns the cohort with a state and a position for each client.

        Raises:
          ValueError: the cohort has more clients than the process' `capacity`.
          UserError: a client is in the cohort twice. The second state would replace the
            first, and the server would have the updates of both.
        """
        if len(set(cohort.client_ids)) < len(cohort):
            counts = collections.Counter(cohort.client_ids)
            name, times = counts.most_common(1)[0]
            raise UserError(
                f"client {name!r} is in a cohort {times} times, but clients keep one "
                "state between rounds; draw cohorts without replacement"
            )
        if len(cohort) > self._spec.capacity:
            raise ValueError(
                f"a cohort has {len(cohort)} clients, but the process has room for "
                f"the states of {self._spec.capacity}; build it with a larger "
                "max_cohort_size"
            )
        positions = np.arange(len(cohort), dtype=np.int32)
        return cohort.with_members(position=positions).with_loader(
            "client_state", self.rows
        )

    def rows(
        self,
        client_ids: Sequence[str],
        after: Optional[Mapping[str, int]] = None,
    ) -> np.ndarray:
        """Reads the clients' states, float32 `[clients, d]`.

        Clients without a row have the initial state.

        Args:
          client_ids: the clients.
          after: by client, the last round whose state counts; by default all rounds
            count.

        Raises:
          UserError: the file is damaged, or belongs to another model.
        """
        initial = self._spec.initial
        states = np.empty((len(client_ids), len(initial)), np.float32)
        for row, client_id in enumerate(client_ids):
            try:
                # A new cursor: several threads gather chunks at once.
                cursor = self._database.cursor()
                last = _ANY_ROUND if after is None else after[client_id]
                stored = cursor.execute(_LATEST, (client_id, last)).fetchone()
                if stored is not None:
                    checksum, content = stored
                    states[row] = _decoded(checksum, content, len(initial))
            except (sqlite3.DatabaseError, ValueError) as error:
                raise self._damaged(f"client {client_id!r}: {error}") from error
            if stored is None:
                states[row] = initial
        return states

    def _damaged(self, why: str) -> UserError:
        return UserError(
            f"{self._path} is damaged ({why}); restore the file, or choose another "
            "--output_dir"
        )

    def store(self, round_number: int, client_ids: Sequence[str], rows: Any) -> None:
        """Stores a round's new states.

        Args:
          round_number: the round's number, from 1; rows of the same round are replaced.
          client_ids: the cohort.
          rows: float32 `[at least clients, d]`, in the cohort's order.

        Raises:
          UserError: the file cannot be written.
        """
        table = np.asarray(rows, np.float32)
        try:
            self._database.execute("begin")
            self._database.executemany(
                "insert or replace into states values (?, ?, ?, ?)",
                (
                    (client_id, round_number, *_encoded(table[row]))
                    for row, client_id in enumerate(client_ids)
                ),
            )
            self._database.execute("commit")
        except sqlite3.DatabaseError as error:
            raise UserError(f"{self._path} cannot be written ({error})") from error

    def go_back(self, client_id: str, round_number: int, oldest: int) -> None:
        """Drops a client's states of later rounds, and states that are never needed.

        Args:
          client_id: the client.
          round_number: the last round whose state is kept; 0 for none.
          oldest: the oldest round whose state may be needed.

        Raises:
          UserError: the file is damaged.
        """
        try:
            with self._database:
                self._database.execute(
                    "delete from states where client = ? and (round > ? or round < ("
                    "select max(newer.round) from states as newer "
                    "where newer.client = states.client and newer.round <= ?))",
                    (client_id, round_number, min(oldest, round_number)),
                )
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from error

    def has(self, client_id: str, round_number: int) -> bool:
        """Whether a client's state after a round is known; True for round 0.

        Raises:
          UserError: the file is damaged.
        """
        try:
            (found,) = self._database.execute(
                "select count(*) from states where client = ? and round = ?",
                (client_id, round_number),
            ).fetchone()
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from error
        return round_number == 0 or bool(found)

    def restore(self, round_number: int, extent: Sequence[int]) -> None:
        """Goes back to the states after a round.

        Args:
          round_number: the round of the checkpoint that the run resumes from; 0
            for none.
          extent: the table's extent at that checkpoint.

        Raises:
          UserError: the table lacks the states of that round.
        """
        try:
            self._database.execute(
                "delete from states where round > ?", (round_number,)
            )
            current = self.extent
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from error
        if current != tuple(extent):
            raise UserError(
                f"{self._path} holds states of {current[0]} clients that differ from "
                f"the states of {extent[0]} clients at the checkpoint of round "
                f"{round_number}; restore the file, or choose another --output_dir"
            )

    def sync(self) -> None:
        """Makes the rows durable; call it before a checkpoint that needs them."""
        self._database.execute("pragma wal_checkpoint(truncate)")

    def drop_outdated(self, oldest_checkpoint: int) -> None:
        """Drops the rows that no checkpoint needs.

        Args:
          oldest_checkpoint: the round of the oldest checkpoint to which the run may
            return.
        """
        self._database.execute(_OUTDATED, (oldest_checkpoint,))

    @property
    def extent(self) -> tuple[int, int, int]:
        """A summary of the table, to compare the table with another table.

        The summary is the number of clients with rows, the sum of the rounds of their
        newest rows, and a checksum over clients and states.
        """
        clients, rounds, marks = self._database.execute(_EXTENT).fetchone()
        return int(clients), int(rounds), int(marks)

    @property
    def last_round(self) -> int:
        """The latest round of any row; 0 without rows."""
        (found,) = self._database.execute("select max(round) from states").fetchone()
        return int(found or 0)

    @property
    def num_clients(self) -> int:
        """Number of clients with rows: clients that were in a cohort."""
        return self.extent[0]

    def close(self) -> None:
        """Closes the file."""
        self._database.close()


# The extent of a table without rows.
EMPTY_TABLE = (0, 0, 0)


def _mark(client_id: str, round_number: int, checksum: int) -> int:
    """Computes a checksum of a state's checksum, its client and its round."""
    return zlib.crc32(f"{round_number} {checksum} {client_id}".encode())


def _encoded(state: np.ndarray) -> tuple[int, bytes]:
    """Encodes a row's checksum and state."""
    content = state.astype("<f4").tobytes()
    return zlib.crc32(content), content


def _decoded(checksum: int, content: bytes, size: int) -> np.ndarray:
    if zlib.crc32(content) != checksum:
        raise ValueError("its checksum does not match")
    state = np.frombuffer(content, "<f4")
    if len(state) != size:
        raise ValueError(
            f"its state has {len(state)} numbers, but this model's has {size}"
        )
    return state
