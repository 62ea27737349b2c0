"""A layer below the files of a run, in which one operation fails once."""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, Optional

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# By operation: how it fails.
ERRORS = {
    "open": errno.ENOSPC,
    "write": errno.ENOSPC,
    "pwrite": errno.EIO,
    "fsync": errno.EIO,
    "replace": errno.ENOSPC,
    "ftruncate": errno.EIO,
}
# A part of the content is written, as on a disk that fills up.
SHORT = "short"


class Faults:
    """Counts operations on files of a folder, and fails one of them.

    No file is synced.

    Attributes:
      done: the operations so far, as (name, path's last part).

    Args:
      folder: whose files count.
      at: the number of the operation that fails, from 0; None for none.
      short: whether a write that fails writes a part.
    """

    def __init__(
        self, folder: pathlib.Path, at: Optional[int] = None, *, short: bool = False
    ):
        self._folder = str(folder.resolve())
        self._at = at
        self._short = short
        self.done: list[tuple[str, str]] = []

    def _fails(self, name: str, path: Any) -> bool:
        text = os.path.abspath(os.fspath(path))
        if not text.startswith(self._folder):
            return False
        self.done.append((name, os.path.basename(text)))
        return len(self.done) - 1 == self._at

    def _of_descriptor(
        self, name: str, inner: Callable[..., Any]
    ) -> Callable[..., Any]:
        def operation(descriptor: int, *arguments: Any) -> Any:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            if self._fails(name, path.removesuffix(" (deleted)")):
                if self._short and name == "write":
                    return inner(descriptor, bytes(arguments[0])[: -1 or None])
                raise OSError(ERRORS[name], os.strerror(ERRORS[name]))
            # Nothing is lost without a power failure, and disks are slow.
            return None if name == "fsync" else inner(descriptor, *arguments)

        return operation

    def _os_open(self, inner: Callable[..., int]) -> Callable[..., int]:
        def operation(path: Any, flags: int, *more: Any, **named: Any) -> int:
            if flags & _WRITES and self._fails("open", path):
                number = ERRORS["open"]
                raise OSError(number, os.strerror(number), os.fspath(path))
            return inner(path, flags, *more, **named)

        return operation

    def _io_open(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        def operation(file: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
            writes = set("wax+") & set(mode) and not isinstance(file, int)
            if writes and self._fails("open", file):
                number = ERRORS["open"]
                raise OSError(number, os.strerror(number), os.fspath(file))
            return inner(file, mode, *more, **named)

        return operation

    def _replace(self, inner: Callable[..., None]) -> Callable[..., None]:
        def operation(source: Any, target: Any, **named: Any) -> None:
            if self._fails("replace", target):
                number = ERRORS["replace"]
                raise OSError(number, os.strerror(number), os.fspath(target))
            inner(source, target, **named)

        return operation

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """The layer is in place until the end of the block."""
        before = [
            (owner, name, getattr(owner, name))
            for owner, name in (
                *((os, n) for n in ("write", "pwrite", "fsync", "ftruncate")),
                *((os, n) for n in ("open", "replace")),
                (io, "open"),
                (builtins, "open"),
            )
        ]
        try:
            for owner, name, inner in before:
                if name == "replace":
                    layer: Any = self._replace(inner)
                elif name != "open":
                    layer = self._of_descriptor(name, inner)
                else:
                    layer = (self._os_open if owner is os else self._io_open)(inner)
                setattr(owner, name, layer)
            yield
        finally:
            for owner, name, inner in before:
                setattr(owner, name, inner)
