"""Writes a private run's statement at the right times."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sized
from pathlib import Path


@contextlib.contextmanager
def kept_up_to_date(
    path: Path, ledger: Sized, write: Callable[[], None]
) -> Iterator[None]:
    """Writes the statement when a run begins, and again when it stops.

    A resumed run keeps its old statement until it stops. If the run fails before it
    charges a round, the old statement remains. For example, the run may be refused
    because its ledger lost rounds, and a new statement would leave out these rounds.

    Args:
      path: the path of the statement.
      ledger: the ledger of the run's rounds.
      write: writes the statement.
    """
    if not path.exists():
        write()
    charged = len(ledger)
    try:
        yield
    except BaseException:
        if len(ledger) > charged:
            write()
        raise
    write()
