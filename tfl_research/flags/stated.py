"""When a private run's statement is written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sized
from pathlib import Path


@contextlib.contextmanager
def stated(path: Path, ledger: Sized, write: Callable[[], None]) -> Iterator[None]:
    """Writes the statement when a run begins, and again when it stops.

    A resumed run's stays until then, and for good where the run fails before it
    charges anything: it may be refused because its ledger lost rounds, which a new
    statement would leave out.

    Args:
      path: of the statement.
      ledger: of the run's rounds.
      write: writes it.
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
