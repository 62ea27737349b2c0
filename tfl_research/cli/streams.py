"""Standard output that survives closed pipes, full disks and poor encodings.

A run must not end because nobody reads its lines any more: its results are in files.
If a terminal or a file cannot encode a character, other characters replace it.
"""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import Any, Optional, TextIO, Union

# Replacements of characters that an encoding lacks.
_WORDS = {
    "ε": "eps",
    "δ": "delta",
    "σ": "sigma",
    "μ": "mu",
    "α": "alpha",
    "λ": "lambda",
    "√": "sqrt",
    "²": "^2",
    "×": "x",
    "·": "*",
    "±": "+-",
    "≤": "<=",
    "≥": ">=",
    "→": "->",
    "∞": "inf",
    "–": "-",
    "…": "...",
    "█": "#",
}
_IN_WORDS = "tfl_in_words"


def _in_words(error: UnicodeError) -> tuple[Union[str, bytes], int]:
    """Replaces characters that an encoding lacks by words or escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    # A lone surrogate stands for a byte of a name that is not UTF-8.
    plain = (
        _WORDS.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text
    )
    return "".join(plain), error.end


codecs.register_error(_IN_WORDS, _in_words)


class _Descriptor(io.RawIOBase):
    """Writes to a descriptor; after the reader has gone, to nothing.

    Attributes:
      lost: the error after which nothing more was written, or None.
    """

    def __init__(self, descriptor: int, name: str):
        super().__init__()
        self._descriptor = descriptor
        self._name = name
        self.lost: Optional[OSError] = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, content: Any) -> int:
        while True:
            try:
                return os.write(self._descriptor, content)
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError as error:
                self._drop(error)
                return len(content)

    def _drop(self, error: OSError) -> None:
        """Sends all further output to the null device."""
        self.lost = error
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self._descriptor)
        os.close(nothing)
        if self._name == "standard output":
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(
                    f"warning: {self._name} takes no more lines ({error.strerror}); "
                    "the program goes on without this output\n"
                )
                sys.stderr.flush()


def _open_descriptors() -> None:
    """Opens the null device where a standard stream is closed.

    Otherwise the next file that is opened would be the standard output.
    """
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        descriptor = os.dup(descriptor)
    os.close(descriptor)


@dataclasses.dataclass(frozen=True)
class _Stream:
    """A stream that replaces a standard stream, with its descriptor."""

    text: io.TextIOWrapper
    raw: _Descriptor


def _surviving(stream: Optional[TextIO], number: int, name: str) -> Optional[_Stream]:
    """Makes a stream to a standard stream's descriptor; None for another stream."""
    encoding, buffered = "utf-8", False
    if stream is not None:
        try:
            if stream.fileno() != number:
                return None
        except (OSError, ValueError):
            # Another stream has replaced the standard stream, as in a notebook or test.
            return None
        stream.flush()
        encoding, buffered = stream.encoding, not stream.isatty()
    raw = _Descriptor(number, name)
    text = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors=_IN_WORDS,
        line_buffering=number == 2 or not buffered,
    )
    return _Stream(text, raw)


@contextlib.contextmanager
def surviving() -> Iterator[None]:
    """Replaces standard output and error until the end of the block.

    Raises:
      OSError: the block succeeded, but standard output could not be written, and the
        reason is not a reader that went away.
    """
    _open_descriptors()
    before = sys.stdout, sys.stderr
    out = _surviving(sys.stdout, 1, "standard output")
    err = _surviving(sys.stderr, 2, "standard error")
    if out is not None:
        sys.stdout = out.text
    if err is not None:
        sys.stderr = err.text
    try:
        yield
    finally:
        for own in (out, err):
            if own is not None:
                # `detach` flushes; the descriptor stays open.
                own.text.detach()
        sys.stdout, sys.stderr = before
    lost = None if out is None else out.raw.lost
    if lost is not None and lost.errno != errno.EPIPE:
        raise OSError(lost.errno, lost.strerror, "standard output")
