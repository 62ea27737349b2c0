"""Records which rounds a site has noised, so that no noise is used for two models."""

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
    """Keeps the digest of every round's request in a file of the site.

    The noise of a round is a function of the site's secret, the run, the number of its
    restarts and the round. A round that is repeated for another model would have the
    same noise, and the difference of the two reports would have no noise. A restart
    (`--recharge`) begins after a round. The later rounds then have new noise. The
    rounds up to that round cannot be repeated, since they would have new noise without
    a charge.

    Args:
      path: the path of the file; a missing file is made.
    """

    def __init__(self, path: pathlib.Path):
        try:
            self._database = sqlite3.connect(path, check_same_thread=False)
            # With a write-ahead log, a round waits for one write to disk, not four.
            self._database.execute("pragma journal_mode = wal")
            self._database.execute("pragma synchronous = full")
            self._database.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise UserError(f"{path}: cannot be read ({error}); restore it") from error

    def take(self, round_number: int, digest: str) -> bool:
        """Records a round durably; call it before computing the round.

        Returns:
          Whether the round is new.

        Raises:
          Refused: the round was requested before with another digest.
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
        """The round after which the run began again; 0 without a restart."""
        return self._newest()[1]

    def _newest(self) -> tuple[int, int]:
        found = self._database.execute(
            "select number, after_round from restarts order by number desc limit 1"
        ).fetchone()
        return (0, 0) if found is None else (int(found[0]), int(found[1]))

    def restart(self, number: int, after: int) -> None:
        """Records a restart durably; call it before drawing the new noise.

        Args:
          number: number of restarts, including this restart.
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
