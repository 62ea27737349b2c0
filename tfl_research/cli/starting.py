"""Ctrl-C and SIGTERM from the first instruction of a program on.

Python raises KeyboardInterrupt wherever the program happens to be. In the import of
TensorFlow, and in other foreign code, that can be in a place that drops exceptions: the
program would go on as if nothing had been said. So a program of this package does
nothing first, before its imports:

    from tfl_research.cli import starting

    starting.end_on_signals()

This module imports next to nothing, so that there is nothing before it.
"""

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import Optional

_LINE = b"interrupted\n"


def end_on_signals() -> None:
    """Ends this process at SIGINT and SIGTERM, with one line and code 130 or 143.

    Nothing is raised and nothing is cleaned up: files are whole at any moment, because
    runs survive kill -9; and processes that this process has started end together with
    it. Rounds handle signals by themselves, and save what is completed.

    A signal that is ignored stays so, as Ctrl-C in the background jobs of a shell.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)
    # The scripts let signals wait until now.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))


def _end(number: int, _: Optional[FrameType]) -> None:
    # Standard output may be in the middle of a line, or closed.
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        os.write(2, _LINE)
    os._exit(128 + number)
