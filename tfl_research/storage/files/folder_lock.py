"""The lock of a run's folder: one process at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import pathlib
import warnings

from tfl_research.errors import UserError

FILE = ".lock"


def locked(folder: pathlib.Path) -> int:
    """Locks a folder; returns a descriptor that holds the lock until it is closed.

    The lock ends with the process, too. Warns if the file system has no locks.

    Raises:
      UserError: another process uses the folder.
      OSError: the folder cannot be written.
    """
    descriptor = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise UserError(
                f"{folder} is in use by another process (pid {owner or 'unknown'}); "
                "wait for it or choose another --output_dir"
            ) from error
        # Some file systems have no locks; a run works there too.
        warnings.warn(
            f"cannot lock {folder} ({error.strerror}): do not start two runs in this "
            "folder",
            stacklevel=4,
        )
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
