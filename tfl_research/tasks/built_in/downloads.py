"""Data sets that TFF downloads at run time, with clear errors."""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
import socket
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tfl_research.storage.files import user_paths

_Loaded = TypeVar("_Loaded")
# Without a timeout, a network that drops packets would stop a run for ever.
_STALLED_SECONDS = 60.0


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Any:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def database_folder(cache_dir: str | None) -> pathlib.Path:
    """Returns the folder in which TFF keeps downloaded databases."""
    return user_paths.expanded(cache_dir) if cache_dir else _home() / ".tff"


def word_count_folder(cache_dir: str | None) -> pathlib.Path:
    """Returns the folder in which TFF, through Keras, keeps downloaded word counts."""
    root = user_paths.expanded(cache_dir) if cache_dir else _home() / ".keras"
    return root / "datasets"


def _home() -> pathlib.Path:
    return user_paths.expanded("~")


def digest(task: str, options: Mapping[str, Any]) -> str | None:
    """Computes SHA-256 of a task's downloaded files; None for a task without downloads.

    The files can be larger than memory, so they are read as a stream.

    Args:
      task: name of a task of this package.
      options: the options of the task, by name.
    """
    if task not in ("cifar100", "emnist", "stackoverflow") or options.get("synthetic"):
        return None
    cache_dir = options.get("cache_dir")
    folder = database_folder(cache_dir)
    files = {
        "cifar100": [folder / "cifar100.sqlite"],
        "emnist": [folder / "emnist_all.sqlite"],
        "stackoverflow": [
            folder / "stackoverflow.sqlite",
            word_count_folder(cache_dir) / "stackoverflow.word_count.tar.bz2",
        ],
    }[task]
    total = hashlib.sha256()
    for path in files:
        if path.is_file():
            with open(path, "rb") as file:
                while block := file.read(1 << 22):
                    total.update(block)
        total.update(path.name.encode() + b"\n")
    return total.hexdigest()


def loaded(task: str, path: pathlib.Path, load: Callable[[], _Loaded]) -> _Loaded:
    """Calls `load`, which downloads `path` if the file is missing.

    If the download fails or is interrupted, the partial file is removed, since TFF
    would use the file in the next run.

    Raises:
      ValueError: `load` failed; the message names the file, the reason and the remedy
        in one line.
    """
    was_there = path.exists()
    done = False
    try:
        with _socket_timeout(_STALLED_SECONDS):
            result = load()
        done = True
        return result
    except Exception as error:  # noqa: BLE001
        # Keras raises plain Exceptions, TFF and sqlite3 raise classes of their own.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if was_there:
            what = f"cannot read {path} ({reason}); remove it to download it again"
        else:
            what = (
                f"could not download {path.name} ({reason}); copy it to {path.parent} "
                "or pass the folder that holds it as cache_dir"
            )
        raise ValueError(
            f"task {task!r}: {what}, try the task with synthetic=True, or use a task "
            "whose data ship with the package, such as mnist or shakespeare"
        ) from None
    finally:
        if not done and not was_there:
            path.unlink(missing_ok=True)


def simulation_datasets() -> Any:
    """Imports and returns `tff.simulation.datasets`."""
    # The import of TFF takes seconds, so only tasks that need TFF import it.
    import tensorflow_federated as tff

    return tff.simulation.datasets
