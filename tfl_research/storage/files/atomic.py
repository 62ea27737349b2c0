"""Writes files atomically: a file has all of its content, or does not exist."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Iterator

TEMPORARY_SUFFIX = ".tmp"


@contextlib.contextmanager
def _named(path: pathlib.Path) -> Iterator[None]:
    """Adds the file's name to errors of the block that have no name."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def sync_folder(folder: pathlib.Path) -> None:
    """Makes renames and new files in `folder` durable.

    Raises:
      OSError: the folder cannot be synced; the message names the folder.
    """
    with _named(folder):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write(path: pathlib.Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replaces `path` by `content`: temporary file, fsync, rename, fsync.

    A reader, also after a kill or a power failure, sees the old content or the new
    content, never a part. The file has `mode` from its creation.

    Raises:
      OSError: the file cannot be written; the message names the file. The old content
        is kept, and no temporary file is left.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    with _named(path):
        temporary.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = os.open(temporary, flags, mode)
        try:
            try:
                _write_all(descriptor, content)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


def _write_all(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        written = os.write(descriptor, left)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left = left[written:]


def replace_folder(temporary: pathlib.Path, path: pathlib.Path) -> None:
    """Replaces the folder `path` by the complete folder `temporary`.

    After a kill `path` can be missing, but never half-written. Callers write such
    folders from a checkpoint, so they can write them again.
    """
    if os.path.lexists(path):
        discarded = path.with_name(path.name + ".old" + TEMPORARY_SUFFIX)
        remove(discarded)
        os.replace(path, discarded)
        os.replace(temporary, path)
        remove(discarded)
    else:
        os.replace(temporary, path)


def remove(path: pathlib.Path) -> None:
    """Removes a folder, or whatever else is at the path."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
