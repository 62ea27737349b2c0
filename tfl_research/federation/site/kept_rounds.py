"""Which rounds a site has noised, so that no noise is used for two different models."""

from __future__ import annotations

import pathlib
import sqlite3

from tfl_research.errors import UserError
from tfl_research.federation.wire.handler import Refused

_SCHEMA = """
create table if not exists rounds (round integer primary key, digest text not null);
create table if not exists restarts (
  number integer primary key, after_round integer not null
);
"""


class KeptRounds:
    """The digest of every round's request, in a file of the site.

    The noise of a round is a function of the site's secret, the run, the number of its
    restarts and the round. A round that is repeated for another model would have the
    same noise, and the difference of the two reports would have none. A restart
    (`--recharge`) begins after a round. The later rounds have new noise then, and the
    rounds up to this one are over: with new noise they would not have been charged.

    Args:
      path: the path of the file; made when missing.
    """

    def __init__(self, path: pathlib.Path):
        try:
            self._database = sqlite3.connect(path, check_same_thread=False)
            # A round waits for one write of the disk, and not for four.
            self._database.execute("pragma journal_mode = wal")
            self._database.execute("pragma synchronous = full")
            self._database.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise UserError(f"{path}: cannot be read ({error}); restore it") from error

    def take(self, round_number: int, digest: str) -> bool:
        """Notes a round durably, before anything is computed for it.

        Returns:
          Whether the round is new.

        Raises:
          Refused: the round was asked for with something else.
        """
        row = self._database.execute(
            "select digest from rounds where round = ?", (round_number,)
        ).fetchone()
        if row is None:
            with self._database:
                self._database.execute(
                    "insert into rounds values (?, ?)", (round_number, digest)
                )
            return True
        if row[0] != digest:
            raise Refused(
                f"round {round_number} was computed before for another model, other "
                "clients, other data or another computation, and its noise must not "
                "be used twice; start a new run in another --output_dir"
            )
        return False

    @property
    def restarts(self) -> int:
        """How often the run has begun again with new noise."""
        return self._newest()[0]

    @property
    def restarted_after(self) -> int:
        """The round after which the run has begun again; 0 without a restart."""
        return self._newest()[1]

    def _newest(self) -> tuple[int, int]:
        found = self._database.execute(
            "select number, after_round from restarts order by number desc limit 1"
        ).fetchone()
        return (0, 0) if found is None else (int(found[0]), int(found[1]))

    def restart(self, number: int, after: int) -> None:
        """Notes a restart durably, before anything has its noise.

        Args:
          number: how often the run has begun again, with this time.
          after: the last round that is not repeated.
        """
        with self._database:
            self._database.execute(
                "insert into restarts values (?, ?)", (number, after)
            )
            self._database.execute("delete from rounds where round > ?", (after,))

    def close(self) -> None:
        """Closes the file."""
        self._database.close()
