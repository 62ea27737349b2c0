"""The processes that a process has started, as Linux shows them."""

from __future__ import annotations

import contextlib
import pathlib


def children(pid: int) -> list[int]:
    """Returns the processes that the threads of a process have started.

    A thread may end while the list is read; its children then belong to another.
    """
    found = []
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in path.read_text(encoding="ascii").split()]
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs. A zombie has ended, whoever is to wait for it.

    A process may end while its file is open: then reading fails, and not opening.
    """
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    # The state follows the name in brackets, which may have spaces.
    return text.rpartition(")")[2].split()[0] != "Z"


def descendants(pid: int) -> list[int]:
    """Returns all processes that a process and its descendants have started."""
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found
