"""The file next to a ledger with the ledger's number of lines and last hash.

The head file is written after each line, and so never has more lines than the ledger. A
ledger with fewer lines lost its end. The head file guards against accidents: whoever
can write the ledger can also write the head file.

The file has two lines of the same length, each with a position of the ledger and a
checksum. A new position replaces the older line in place. If a power failure tears a
write, the other line is left, which also is a position that the ledger had.
"""

from __future__ import annotations

import json
import os
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

SUFFIX = ".head"
# Bytes of a line, including the line end.
_LENGTH = 128


def path_of(ledger: pathlib.Path) -> pathlib.Path:
    """Returns the path of a ledger's head file: the ledger's name with `SUFFIX`."""
    return ledger.with_name(ledger.name + SUFFIX)


class Writer:
    """Writes the head file of a ledger, and keeps the head file open.

    Args:
      ledger: path of the ledger.
    """

    def __init__(self, ledger: pathlib.Path) -> None:
        self._path = path_of(ledger)
        self._descriptor = -1

    def write(self, position: Mapping[str, Any]) -> None:
        """Records a position in one step, without fsync.

        Hold the ledger's lock. If the head file cannot be written, nothing happens:
        only the ledger is essential, and an older head is still a position of the
        ledger.

        Args:
          position: the result of `HashChain.position`.
        """
        line = _line(position)
        try:
            if self._is_in_place() or self._open():
                # Even and odd positions alternate, so the older line is replaced.
                offset = position["lines"] % 2 * _LENGTH
                os.pwrite(self._descriptor, line, offset)
            else:
                self._create(line)
        except OSError:
            return

    def _is_in_place(self) -> bool:
        """Whether the path still names the open file, and the file has two lines."""
        if self._descriptor < 0:
            return False
        ours = os.fstat(self._descriptor)
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False
        return os.path.samestat(ours, there) and there.st_size == 2 * _LENGTH

    def _open(self) -> bool:
        """Opens the head file; returns False if there is no file of two lines."""
        self.close()
        try:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        return os.fstat(self._descriptor).st_size == 2 * _LENGTH

    def _create(self, line: bytes) -> None:
        """Replaces any file at the path by a new head file with this position."""
        self.close()
        temporary = self._path.with_name(self._path.name + ".tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._descriptor = os.open(temporary, flags, 0o644)
        os.write(self._descriptor, line + line)
        os.replace(temporary, self._path)

    def close(self) -> None:
        """Closes the file; may be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def write(ledger: pathlib.Path, position: Mapping[str, Any]) -> None:
    """Opens the head file, records a position and closes the file."""
    writer = Writer(ledger)
    try:
        writer.write(position)
    finally:
        writer.close()


def _line(position: Mapping[str, Any]) -> bytes:
    text = f'{{"lines":{position["lines"]},"hash":"{position["hash"]}"'
    line = f'{text},"check":"{zlib.crc32(text.encode()):08x}"}}'
    return f"{line:<{_LENGTH - 1}}\n".encode()


def read(ledger: pathlib.Path) -> dict[str, Any] | None:
    """Reads the recorded position, see `HashChain.position`.

    The result is None if there is no head file, or if the file has no position, which a
    power failure can cause.
    """
    path = path_of(ledger)
    try:
        # Opening a named pipe would wait for its other end.
        content = path.read_bytes() if path.is_file() else b""
    except OSError:
        return None
    # Earlier versions wrote one line without a checksum.
    checked = len(content) == 2 * _LENGTH
    newest: dict[str, Any] | None = None
    for line in content.splitlines():
        found = _position(line, checked=checked)
        if found is not None and (newest is None or found["lines"] > newest["lines"]):
            newest = found
    return newest


def _position(line: bytes, *, checked: bool) -> dict[str, Any] | None:
    try:
        fields = json.loads(line)
        position = {"lines": fields["lines"], "hash": fields["hash"]}
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if type(position["lines"]) is not int or position["lines"] < 0:
        return None
    if not isinstance(position["hash"], str):
        return None
    if checked and line + b"\n" != _line(position):
        return None
    return position
