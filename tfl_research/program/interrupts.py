"""Raises one exception for Ctrl-C and for SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional


class Interrupt(BaseException):
    """A signal asked the run to end. Not an Exception, so that no handler hides it.

    Attributes:
      number: the number of the signal.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class Signals:
    """The signal that came inside a block, if one did."""

    def __init__(self) -> None:
        self.number: Optional[int] = None

    def check(self) -> None:
        """Raises `Interrupt` if a signal came and its exception was dropped.

        Python raises an exception wherever it happens to be, and drops the exception
        in a finalizer and in a callback of foreign code.
        """
        if self.number is not None:
            raise Interrupt(self.number)


@contextmanager
def raised_on_signals() -> Iterator[Signals]:
    """Raises `Interrupt` in the main thread on the first SIGINT or SIGTERM.

    After the first signal, and after the block, the earlier handlers are in place
    again. So a second Ctrl-C ends a process that hangs. In other threads the block
    changes nothing, since Python handles signals in the main thread only.
    """
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    previous: dict[int, Any] = {}

    def restore() -> None:
        while previous:
            number, handler = previous.popitem()
            signal.signal(number, handler)

    def handle(number: int, _: Any) -> None:
        restore()
        signals.number = number
        raise Interrupt(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        # getsignal is None for a handler that Python did not set and cannot restore.
        if signal.getsignal(number) is not None:
            previous[number] = signal.signal(number, handle)
    try:
        yield signals
    finally:
        restore()
