"""How scripts/bench and scripts/compare_frameworks begin and end.

Every process that such a program starts ends with it, and its temporary files go,
whether it is done, is interrupted, or is killed.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator

from benchmark import protocol
from tfl_research.cli import last_resort

_SCRIPTS = pathlib.Path(__file__).resolve().parents[1]
_TEMPORARY = "TMPDIR"


def run(program: str, main: Callable[[], None]) -> int:
    """Runs a program; returns its exit code.

    SIGINT and SIGTERM raise SystemExit in `main`, with the exit code 128 + the signal's
    number.

    Args:
      program: its name, for errors.
      main: the program itself.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)

    def command() -> int:
        with _watched():
            main()
        return 0

    return last_resort.surviving(program, command)


def _stop(number: int, _: object) -> None:
    # Not by sys.stderr, which the program may be writing to at this moment.
    os.write(2, b"interrupted\n")
    sys.exit(128 + number)


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """Marks the processes that are started here, and puts temporary files together.

    The mark is an environment variable, which processes of processes inherit, whatever
    session they move to.
    """
    # A short name: some frameworks put sockets there, whose paths have 107 bytes.
    folder = tempfile.mkdtemp(prefix="tfl")
    mark = uuid.uuid4().hex
    watchdog = subprocess.Popen(
        [sys.executable, "-m", "benchmark.watchdog", mark, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(_SCRIPTS)},
        # Ctrl-C in a terminal, and what kills a group of processes, pass it by.
        start_new_session=True,
    )
    before = os.environ.get(_TEMPORARY)
    os.environ[protocol.DRIVER_MARK] = mark
    _put_temporary_files(folder)
    try:
        yield
    finally:
        del os.environ[protocol.DRIVER_MARK]
        # An error's traceback, which is kept in a temporary file, is to stay.
        _put_temporary_files(before)
        watchdog.communicate()


def _put_temporary_files(folder: str | None) -> None:
    if folder is None:
        del os.environ[_TEMPORARY]
    else:
        os.environ[_TEMPORARY] = folder
    tempfile.tempdir = folder
