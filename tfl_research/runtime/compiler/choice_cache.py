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

_FILE = "execution.json"


def _path() -> pathlib.Path:
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "tfl_research" / _FILE


def key(fingerprint: str, shapes: Sequence[tuple[int, ...]]) -> str:
    """Digest of all that a choice depends on: client work, shapes and machine."""
    machine = (platform.processor(), platform.machine(), len(os.sched_getaffinity(0)))
    parts = (fingerprint, [tuple(shape) for shape in shapes], machine, tf.__version__)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _read() -> dict[str, Any]:
    try:
        content = json.loads(_path().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        warnings.warn(f"{_path()} is not readable ({error}); measuring", stacklevel=3)
        return {}
    return content if isinstance(content, dict) else {}


def recall(key_digest: str) -> Optional[tuple[str, str, str]]:
    """Returns the stored (clients, compiler, reason) of a key, or None."""
    choice = _read().get(key_digest)
    if isinstance(choice, list) and len(choice) == 3:
        return choice[0], choice[1], choice[2]
    return None


def remember(key_digest: str, choice: tuple[str, str, str]) -> None:
    """Stores a choice under a key; warns if the file cannot be written."""
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps({**_read(), key_digest: choice}, indent=1)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, delete=False, encoding="utf-8"
        ) as part:
            part.write(content)
        os.replace(part.name, path)
    except OSError as error:
        warnings.warn(f"cannot remember the choice in {path}: {error}", stacklevel=2)
