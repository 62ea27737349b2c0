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


def descendants(pid: int) -> list[int]:
    """Returns all processes that a process and its descendants have started."""
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found
