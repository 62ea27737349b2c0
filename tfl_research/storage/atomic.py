"""Atomic writes: a file has all of its content, or does not exist."""

from __future__ import annotations

import os
import pathlib
import shutil

TEMPORARY_SUFFIX = ".tmp"


def sync_folder(folder: pathlib.Path) -> None:
    """Makes renames and new files in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: pathlib.Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replaces `path` by `content`: temporary file, fsync, rename, fsync.

    A reader, also after a kill or a power failure, sees the old content or the new
    content, never a part. The file has `mode` from its creation.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def replace_folder(temporary: pathlib.Path, path: pathlib.Path) -> None:
    """Replaces the folder `path` by the complete folder `temporary`.

    After a kill `path` can be missing, but never half-written. Callers write such
    folders from a checkpoint, so they can write them again.
    """
    if path.exists():
        discarded = path.with_name(path.name + ".old" + TEMPORARY_SUFFIX)
        shutil.rmtree(discarded, ignore_errors=True)
        os.replace(path, discarded)
        os.replace(temporary, path)
        shutil.rmtree(discarded)
    else:
        os.replace(temporary, path)
