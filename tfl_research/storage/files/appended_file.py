"""A file that grows by whole lines: a line is written as a whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib


class AppendedFile:
    """Appends to a file that exists, and notices when somebody else changes it.

    Args:
      path: the file.

    Raises:
      OSError: the file cannot be opened.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(path, flags)
        self._size = os.fstat(self._descriptor).st_size

    def append(self, content: bytes) -> None:
        """Adds the content with one call, so that every reader sees it at once.

        Raises:
          OSError: the content could not be written; no part of it is in the file.
        """
        try:
            written = os.write(self._descriptor, content)
            if written != len(content):
                # A full disk cuts a write short.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._size += len(content)

    def is_whole(self) -> bool:
        """Whether the path still leads to this file, with the size that was written."""
        ours = os.fstat(self._descriptor)
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            return False
        return os.path.samestat(ours, there) and ours.st_size == self._size

    def sync(self) -> None:
        """Makes the content durable.

        Raises:
          OSError: the disk did not take it.
        """
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def close(self) -> None:
        """Closes the file; may be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
