"""Ctrl-C and SIGTERM as one exception."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupt(BaseException):
    """A signal asked the run to end; not an Exception, so that nothing eats it."""


@contextmanager
def raised_on_signals() -> Iterator[None]:
    """Raises `Interrupt` in the main thread on the first SIGINT or SIGTERM.

    From then on, and after the block, the signals do what they did before, so
    that a second Ctrl-C ends a process that hangs. In other threads, which cannot
    handle signals, the block changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous: dict[int, Any] = {}

    def restore() -> None:
        while previous:
            number, handler = previous.popitem()
            signal.signal(number, handler)

    def handle(number: int, _: Any) -> None:
        restore()
        raise Interrupt(signal.Signals(number).name)

    for number in (signal.SIGINT, signal.SIGTERM):
        # A handler that was not set from Python could not be set again.
        if signal.getsignal(number) is not None:
            previous[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
