"""Says whether a path is a file, a folder, or something that cannot be read back."""

from __future__ import annotations

import errno
import os
import pathlib
import stat
from typing import Optional

_OTHERS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISREG, "a file"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)
FILE, FOLDER = "a file", "a folder"


def kind(path: pathlib.Path) -> Optional[str]:
    """Says what kind of file is at a path; None if nothing is there.

    The file is not opened, since opening a named pipe waits for its other end.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "a symbolic link to nothing" if os.path.islink(path) else None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "a symbolic link to itself"
        raise
    return next((words for fits, words in _OTHERS if fits(mode)), "no file")


def problem(path: pathlib.Path, wanted: str = FILE) -> Optional[str]:
    """Says what is wrong with a path; None if nothing is wrong.

    Args:
      path: the path of a file or folder that may be missing.
      wanted: `FILE` or `FOLDER`.
    """
    found = kind(path)
    return None if found in (None, wanted) else f"{path} is {found}, expected {wanted}"


def check(path: pathlib.Path, wanted: str = FILE) -> None:
    """Checks that a path has the wanted kind, or does not exist.

    Args:
      path: the path of a file or folder.
      wanted: `FILE` or `FOLDER`.

    Raises:
      ValueError: the path has another kind; the message names the path, the found and
        the expected kind.
    """
    wrong = problem(path, wanted)
    if wrong is not None:
        raise ValueError(f"{wrong}; move it away, or give another path")
