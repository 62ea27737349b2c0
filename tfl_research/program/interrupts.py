"""Raises one exception for Ctrl-C and for SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupt(BaseException):
    """A signal asked the run to end. Not an Exception, so that no handler hides it."""


@contextmanager
def raised_on_signals() -> Iterator[None]:
    """Raises `Interrupt` in the main thread on the first SIGINT or SIGTERM.

    After the first signal, and after the block, the earlier handlers are in place
    again. So a second Ctrl-C ends a process that hangs. In other threads the block
    changes nothing, since Python handles signals in the main thread only.
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
        # getsignal is None for a handler that Python did not set and cannot restore.
        if signal.getsignal(number) is not None:
            previous[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
