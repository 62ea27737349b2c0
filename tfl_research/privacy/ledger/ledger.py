"""A run's ledger, which gets a line for each round before the result is seen.

The first line names the run and commits to its run seed. Restarts and further releases
have lines as well. The lines form a hash chain. They have no times: a run that was
killed and resumed has the same ledger, byte for byte, as an uninterrupted run.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence

from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.ledger.chain_file import ChainFile
from tfl_research.privacy.ledger.hash_chain import HashChain
from tfl_research.privacy.ledger.lines.entries import (
    Entry,
    entry_fields,
)
from tfl_research.privacy.ledger.lines.header import Header, RunIdentity
from tfl_research.privacy.ledger.lines.own_lines import OwnLines
from tfl_research.privacy.ledger.lines.run_record import RunRecord


class Ledger(ChainFile):
    """An append-only file of the rounds of one run whose noise may have been seen.

    `record`, `restart` and `release` return only when the line is on disk (fsync). Call
    them before any value that was computed with the noise leaves the process. The file
    is locked while it is open, so two runs cannot write to it. `SharedLedger` is a
    ledger that several runs share.
    """

    def __init__(
        self, path: str | os.PathLike[str], identity: RunIdentity | None = None
    ) -> None:
        """Opens a ledger; creates a missing file.

        A kill in the middle of a write leaves a last line without a line end. That
        line is dropped with a warning, since its round was never computed.

        Args:
          path: the file.
          identity: the identity of the run. A new ledger gets a first line with the
            identity; without an identity, a new ledger has no such line.

        Raises:
          ValueError: another process has the ledger open; a line is malformed, edited,
            out of order, or follows a line that was removed (the message names file and
            line); the end of the ledger is lost; the ledger belongs to another run or
            run seed, or has lines but no first line with a run.
        """
        super().__init__(HashChain(path))
        self._lines = OwnLines()
        try:
            try:
                fcntl.flock(self._chain.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ValueError(
                    f"{self.path} is in use by another process; wait for that "
                    "process, or end it"
                ) from error
            self._lines.read(self._chain, repair=True)
            self._chain.check_head()
            if identity is not None:
                self._identify(identity)
        except BaseException:
            self.close()
            raise

    def _identify(self, identity: RunIdentity) -> None:
        header = self._lines.header
        if header is not None:
            header.check(f"{self.path}, line 1", identity)
        elif len(self._chain):
            raise ValueError(
                f"{self.path} is of an earlier version, which did not record whose "
                "noise the rounds have, so the run cannot be resumed: start a new run "
                "(privacy_ledger still reads this file)"
            )
        else:
            header = Header.new(identity)
            self._chain.append(header.fields())
            self._lines.header = header

    @property
    def header(self) -> Header | None:
        """The run and the commitment to its seed; None in an older ledger."""
        return self._lines.header

    @property
    def record_of_run(self) -> RunRecord:
        """The record of all entries; do not change it."""
        return self._lines.record

    @property
    def entries(self) -> Sequence[Entry]:
        """Rounds, restarts and releases in the order of the lines."""
        return tuple(self.record_of_run.entries)

    @property
    def events(self) -> Sequence[Event]:
        """The event of round 1, round 2, ... of the present attempt."""
        return tuple(self.record_of_run.rounds)

    def __len__(self) -> int:
        """Returns the number of the last recorded round of the present attempt."""
        return len(self.record_of_run.rounds)

    def __getitem__(self, index: int) -> Event:
        """Returns the event of round `index + 1` of the present attempt."""
        return self.record_of_run.rounds[index]

    def record(self, round_number: int, event: Event) -> None:
        """Writes a round to disk, unless it is recorded already.

        Args:
          round_number: the number of the round, from 1.
          event: the event of the round.

        Raises:
          ValueError: the round is recorded with another event, an earlier round is
            missing, or a mechanism over all rounds would change during the run.
        """
        self._append(self.record_of_run.next_round(f"{self.path}", round_number, event))

    def restart(self, after: int) -> None:
        """Writes a restart to disk: rounds after `after` will be repeated and charged.

        If the ledger ends with this restart, or is empty, nothing is written.

        Raises:
          ValueError: round `after` is not recorded, or the noise of the rounds is
            correlated.
        """
        self._append(self.record_of_run.next_restart(f"{self.path}", after))

    def release(self, name: str, round_number: int, event: Event) -> None:
        """Writes a further release to disk, unless it is recorded already.

        Args:
          name: the name of the release, such as "evaluation"; the releases after a
            round have different names.
          round_number: the last round before the release.
          event: the event of the release.

        Raises:
          ValueError: the release is recorded with another event, or the round is not
            recorded.
        """
        self._append(
            self.record_of_run.next_release(f"{self.path}", name, round_number, event)
        )

    def catch_up(self, entries: Sequence[Entry]) -> None:
        """Adds the entries of this run that only the shared ledger has.

        Args:
          entries: the entries of this run in the shared ledger. They begin with the
            entries of this ledger.
        """
        for entry in entries[len(self.record_of_run.entries) :]:
            self._append(entry)

    def _append(self, entry: Entry | None) -> None:
        if entry is not None:
            self._chain.append(entry_fields(entry))
            self.record_of_run.add(f"{self.path}", entry)
