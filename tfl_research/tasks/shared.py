"""Tasks that the points of a sweep share, so that data are read once.

A task of the toolkit is a pure function of its name, seed and options. Outside of a
sweep each run builds its own task, so that no data stay in memory after the run. Tasks
of builders that a user registered, or that read a user's files, are built each time,
since they may depend on more than name, seed and options.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import threading
from collections.abc import Hashable, Iterator
from typing import Any, Optional

from tfl_research.models import global_seed
from tfl_research.tasks import registry
from tfl_research.tasks.task import Task

_PLAIN = (bool, int, float, str, type(None))
# Number of kept tasks: points alternate between a few seeds and partitions.
_MOST = 4

_lock = threading.RLock()
# The number of running sweeps, and their tasks.
_sweeps = 0
_tasks: collections.OrderedDict[Hashable, Task] = collections.OrderedDict()


@contextlib.contextmanager
def within_sweep() -> Iterator[None]:
    """Keeps and shares the tasks that `get` builds inside of the block."""
    global _sweeps
    with _lock:
        _sweeps += 1
    try:
        yield
    finally:
        with _lock:
            _sweeps -= 1
            if not _sweeps:
                _tasks.clear()
                global_seed.settle()


def is_sweep() -> bool:
    """Whether a block of `within_sweep` is running."""
    return _sweeps > 0


def get(name: str, *, seed: int = 0, **options: Any) -> Task:
    """Builds a task, or returns the equal task of an earlier point of the sweep.

    Args:
      name, seed, options: see `registry.get`.

    Returns:
      A task whose clients and model are checked anew, see `Fitting.again`.

    Raises:
      ValueError: see `registry.get`.
    """
    key = _key(name, seed, options)
    with _lock:
        if key is None or not _sweeps:
            return registry.get(name, seed=seed, **options)
        if key not in _tasks:
            _tasks[key] = registry.get(name, seed=seed, **options)
            while len(_tasks) > _MOST:
                _tasks.popitem(last=False)
        _tasks.move_to_end(key)
        task = _tasks[key]
    return dataclasses.replace(task, fitting=task.fitting.again())


def _key(name: str, seed: int, options: dict[str, Any]) -> Optional[Hashable]:
    """Returns the task's key; None if the task may depend on more than the key."""
    if name not in registry.names() or registry.origin(name) is not None:
        return None
    if any(option in registry.READS_FILES for option in options):
        return None
    if any(type(value) not in _PLAIN for value in options.values()):
        return None
    # 1 == True in Python, but the two options may mean different things.
    given = tuple((option, repr(value)) for option, value in sorted(options.items()))
    return name, seed, given
