"""Stores measured choices of the execution mode for this user and machine."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import platform
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any, Optional

import tensorflow as tf

from tfl_research.storage import json_file, user_paths

_FILE = "execution.json"


def _path() -> Optional[pathlib.Path]:
    """The file; None for a user without a home folder and without a cache."""
    base = user_paths.cache()
    return None if base is None else base / "tfl_research" / _FILE


def key(fingerprint: str, shapes: Sequence[tuple[int, ...]], hardware: str = "") -> str:
    """Digest of all that a choice depends on: client work, shapes and machine.

    Args:
      fingerprint: of the clients' work.
      shapes: of a chunk's leaves.
      hardware: the kind of the GPUs that execute clients' work; empty for the CPU.
    """
    machine: tuple[Any, ...] = (
        platform.processor(),
        platform.machine(),
        len(os.sched_getaffinity(0)),
    )
    if hardware:
        machine = (*machine, hardware)
    parts = (fingerprint, [tuple(shape) for shape in shapes], machine, tf.__version__)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _read() -> dict[str, Any]:
    path = _path()
    if path is None:
        return {}
    try:
        content = json_file.read(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        warnings.warn(f"{path} is not readable ({error}); measuring", stacklevel=3)
        return {}
    return content if isinstance(content, dict) else {}


def recall(key_digest: str) -> Optional[tuple[str, str, str]]:
    """Returns the stored (clients, compiler, reason) of a key, or None."""
    choice = _read().get(key_digest)
    if isinstance(choice, list) and list(map(type, choice)) == [str, str, str]:
        return choice[0], choice[1], choice[2]
    return None


def remember(key_digest: str, choice: tuple[str, str, str]) -> None:
    """Stores a choice under a key; warns if the file cannot be written."""
    path = _path()
    if path is None:
        warnings.warn(
            "there is no home folder to remember how clients are executed, so that "
            f"every run measures it; set {user_paths.VARIABLE}",
            stacklevel=2,
        )
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps({**_read(), key_digest: choice}, indent=1)
        handle, part = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(content)
            os.replace(part, path)
        except BaseException:
            os.unlink(part)
            raise
    except OSError as error:
        warnings.warn(f"cannot remember the choice in {path}: {error}", stacklevel=2)
