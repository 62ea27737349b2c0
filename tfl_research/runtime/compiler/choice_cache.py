"""Stores measured choices of the execution mode for this user and machine."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from tfl_research import interrupts
from tfl_research.runtime.compiler.mode import CLIENT_MODES, COMPILERS
from tfl_research.storage.files import json_file, user_cache, user_paths

_FILE = "execution.json"


def _path() -> Optional[pathlib.Path]:
    """Returns the file's path; None for a user without a home and a cache folder."""
    base = user_paths.cache()
    return None if base is None else base / "tfl_research" / _FILE


def key(fingerprint: str, shapes: Sequence[tuple[int, ...]], hardware: str = "") -> str:
    """Computes a digest of everything that decides a choice: work, shapes, machine.

    Args:
      fingerprint: the fingerprint of the clients' work.
      shapes: the shapes of a chunk's leaves.
      hardware: the kind of the GPUs that execute clients' work, or another property of
        the machine that decided; empty for the CPU of a process that sees no GPUs.
    """
    import tensorflow as tf

    machine = (*user_cache.machine(), len(os.sched_getaffinity(0)), hardware)
    # Says how XLA's programs compute in this version, so that choices that were
    # measured with other programs do not count.
    programs = "one thread, products of a pool, other forms, positions gathered"
    given = [tuple(shape) for shape in shapes]
    parts = (fingerprint, given, machine, tf.__version__, programs)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


class _Stored(NamedTuple):
    """The content of the file of choices.

    Attributes:
      choices: the choices by key.
      problem: words for what is wrong with the file.
      is_anothers: whether the file belongs to another user.
    """

    choices: dict[str, Any]
    problem: str = ""
    is_anothers: bool = False


def _read() -> _Stored:
    path = _path()
    if path is None:
        return _Stored({})
    try:
        stored = user_cache.read(path)
        if stored is None:
            return _Stored({})
        content = json_file.parsed(stored)
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError) as error:
        is_anothers = isinstance(error, user_cache.OfAnotherUser)
        return _Stored({}, f"{path} is not readable ({error}); measuring", is_anothers)
    return _Stored(content)


def recall(key_digest: str) -> Optional[tuple[str, str, str]]:
    """Returns the stored (clients, compiler, reason) of a key, or None.

    Warns if the file is damaged.
    """
    choices, problem, _ = _read()
    if problem:
        warnings.warn(problem, stacklevel=2)
    choice = choices.get(key_digest)
    if isinstance(choice, list) and list(map(type, choice)) == [str] * 4:
        clients, compiler, reason, digest = choice
        known = clients in CLIENT_MODES and compiler in COMPILERS
        if known and digest == _digest(key_digest, clients, compiler, reason):
            return clients, compiler, reason
    return None


def _digest(*parts: str) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def remember(key_digest: str, choice: tuple[str, str, str]) -> None:
    """Stores a choice under a key; warns if the file cannot be written."""
    interrupts.check()
    path = _path()
    if path is None:
        warnings.warn(
            "there is no home folder in which to keep the fastest way to execute "
            f"clients, so every run measures it again; set {user_paths.VARIABLE}",
            stacklevel=2,
        )
        return
    _, problem, is_anothers = _read()
    if is_anothers:
        # The file has another user's choices. `recall` has warned of this.
        return
    try:
        # Other processes store their choices in the same file.
        with user_cache.changing(path):
            choices = _read().choices
            choices[key_digest] = [*choice, _digest(key_digest, *choice)]
            content = json.dumps(choices, indent=1)
            user_cache.replace(path, content.encode())
    except OSError as error:
        # `recall` has warned of a damaged file.
        if not problem:
            warnings.warn(
                f"cannot remember the choice in {path}: {error}", stacklevel=2
            )
