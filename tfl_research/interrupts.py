"""Raises one exception for Ctrl-C and SIGTERM, even if foreign code changes it.

Python raises a handler's exception wherever the main thread happens to be. Foreign code
can change this exception: TensorFlow turns it into an AssertionError or a RuntimeError
in the middle of tracing, and a finalizer drops it. Code that concludes something from a
failure of TensorFlow must therefore call `check()` first.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, Optional

_TENSORFLOW = "tensorflow"
_NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Interrupt(BaseException):
    """A signal asked the run to end.

    The class is no Exception, so that no `except Exception` hides the signal.

    Attributes:
      number: the number of the signal.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class Signals:
    """Holds the signal that came inside a block, if a signal came."""

    def __init__(self) -> None:
        self.number: Optional[int] = None

    def check(self) -> None:
        """Raises `Interrupt` if a signal came, even if its exception was dropped."""
        if self.number is not None:
            raise Interrupt(self.number)

    def cause_of(self, error: BaseException) -> BaseException:
        """Returns the `Interrupt` that replaces an error raised after a signal.

        Returns:
          An `Interrupt`. `error` itself if no signal came, if `error` is not an
          `Exception`, or if it is the StopIteration of finished work.
        """
        is_end = isinstance(error, StopIteration) or not isinstance(error, Exception)
        if self.number is None or is_end:
            return error
        return Interrupt(self.number)


# The signals of the main thread's blocks, the innermost last.
_blocks: list[Signals] = []


def check() -> None:
    """Raises `Interrupt` if a signal came in the main thread's block.

    Call it before you conclude something from an error of foreign code: after a signal,
    the signal may have caused the error. It does nothing in other threads.

    Raises:
      Interrupt: a signal came.
    """
    if threading.current_thread() is threading.main_thread():
        for signals in _blocks:
            signals.check()


@contextmanager
def raised_on_signals(signals: Optional[Signals] = None) -> Iterator[Signals]:
    """Raises `Interrupt` in the main thread on the first SIGINT or SIGTERM.

    After the first signal, and after the block, the earlier handlers are in place
    again. So a second Ctrl-C ends a process that hangs. In other threads the block
    changes nothing, since Python handles signals in the main thread only. A signal that
    comes while the block ends goes to the earlier handlers.

    TensorFlow logs an exception that ends its tracing in hundreds of lines. After a
    signal, and until the end of the block, it logs nothing.

    Args:
      signals: notes the signal; a new object by default.

    Raises:
      Interrupt: a signal came, also where its exception became another one.
    """
    signals = signals or Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    previous: dict[int, Any] = {}
    late: list[int] = []
    is_inside = False
    logger = logging.getLogger(_TENSORFLOW)
    report_dropped = sys.unraisablehook

    def restore() -> None:
        # The handler can interrupt this loop, and must find the handlers not yet set.
        for number in _NUMBERS:
            handler = previous.pop(number, None)
            if handler is not None:
                signal.signal(number, handler)

    def nothing(_: logging.LogRecord) -> bool:
        return False

    def end(number: int) -> NoReturn:
        signals.number = number
        logger.addFilter(nothing)
        raise Interrupt(number)

    def handle(number: int, _: Any) -> None:
        restore()
        if is_inside:
            end(number)
        # An exception would leave half of the handlers behind.
        late.append(number)

    def dropped(unraisable: Any) -> None:
        """Python says here that a finalizer dropped an exception."""
        if not isinstance(unraisable.exc_value, Interrupt):
            report_dropped(unraisable)

    try:
        for number in _NUMBERS:
            # None is a handler that Python did not set and cannot restore. An ignored
            # signal stays ignored: a shell lets its background jobs ignore Ctrl-C.
            if signal.getsignal(number) not in (None, signal.SIG_IGN):
                previous[number] = signal.signal(number, handle)
        _blocks.append(signals)
        sys.unraisablehook = dropped
        try:
            is_inside = True
            if late:
                end(late.pop())
            yield signals
        except Exception as error:
            cause = signals.cause_of(error)
            if cause is error:
                raise
            raise cause from None
        finally:
            is_inside = False
    finally:
        # A signal can come before the assignment above, so assign again.
        is_inside = False
        restore()
        if signals in _blocks:
            _blocks.remove(signals)
        logger.removeFilter(nothing)
        if sys.unraisablehook is dropped:
            sys.unraisablehook = report_dropped
        for missed in late:
            signal.raise_signal(missed)
