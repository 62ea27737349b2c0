"""When a private run's statement is written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sized
from pathlib import Path


@contextlib.contextmanager
def kept_up_to_date(
    path: Path, ledger: Sized, write: Callable[[], None]
) -> Iterator[None]:
    """Writes the statement when a run begins, and again when it stops.

    A resumed run keeps its statement until then. The old statement stays for good if
    the run fails before it charges anything: the run may be refused because its ledger
    lost rounds, which a new statement would leave out.

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
