"""Keeps files in the user's cache folder that can be computed again.

Files are never trusted. At any time, a file may be lost, cut off, damaged, or from
other parameters or another version, and two processes may write it at once. A reader
gets the content that was stored under the same key, or None. A writer replaces the
whole file, or warns.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
import pathlib
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Optional

from tfl_research.errors import UserError
from tfl_research.storage.files import file_kinds, user_paths

# Version of the files of `computed`; files of other versions are computed anew.
_VERSION = 1
LOCK_SUFFIX = ".lock"
_TEMPORARY_SUFFIX = ".tmp"
_LOCK_SECONDS = 10.0
_LEFT_SECONDS = 24 * 3600.0


def folder() -> pathlib.Path:
    """Returns the toolkit's folder in the user's cache; the folder may be missing.

    Raises:
      UserError: the user has no home folder, and the variable is not set.
    """
    root = user_paths.cache()
    if root is None:
        raise UserError(f"there is no home folder; set {user_paths.VARIABLE}")
    return root / "tfl_research"


@functools.lru_cache(maxsize=1)
def machine() -> tuple[str, ...]:
    """Returns the type of the machine, on which numbers and speed depend.

    This is the architecture and, if the system tells it, the processor's model.
    """
    model = platform.processor()
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "CPU part", "flags", "Features"):
                model += f" {' '.join(value.split())}"
            if not line.strip():
                break
    except (OSError, UnicodeError):
        model += " of a system that tells no more"
    digest = hashlib.sha256(model.encode()).hexdigest()[:16]
    return platform.system(), platform.machine(), digest


@contextlib.contextmanager
def changing(path: pathlib.Path) -> Iterator[None]:
    """Holds a file's lock, so that reading and replacing the file are one step.

    Whatever the file system or a stopped process does, the block runs: without locks,
    and after ten seconds without the lock. Then a change of another process can be
    lost, which costs time and no result.

    Raises:
      OSError: the folder cannot be made or written.
    """
    _make_folder(path.parent)
    lock = path.with_name(path.name + LOCK_SUFFIX)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        end = time.monotonic() + _LOCK_SECONDS
        while time.monotonic() < end:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    break
            time.sleep(0.005)
        yield
    finally:
        os.close(descriptor)


def _make_folder(folder: pathlib.Path) -> None:
    """Makes missing folders that others cannot write; others keep their mode."""
    for each in (*reversed(folder.parents), folder):
        if not each.is_dir():
            each.mkdir(mode=0o700, exist_ok=True)


def _remove_left(folder: pathlib.Path) -> None:
    """Removes temporary files of processes that were killed a day ago or earlier."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f"*{_TEMPORARY_SUFFIX}"):
            if time.time() - path.stat().st_mtime > _LEFT_SECONDS:
                path.unlink()


def replace(path: pathlib.Path, content: bytes) -> None:
    """Replaces a file as a whole; makes a missing folder that others cannot write.

    Several processes can call this at once: the file of one process stays.

    Raises:
      OSError: the folder cannot be made or written; no temporary file is left.
    """
    _make_folder(path.parent)
    _remove_left(path.parent)
    handle, part = tempfile.mkstemp(dir=path.parent, suffix=_TEMPORARY_SUFFIX)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def path_of(kind: str, key: Mapping[str, Any]) -> pathlib.Path:
    """Returns the file of `computed` for a kind of content and its key.

    Raises:
      UserError: see `folder`.
    """
    digest = hashlib.sha256(_words(kind, key).encode()).hexdigest()
    return folder() / kind / f"{digest[:32]}.cache"


def computed(kind: str, key: Mapping[str, Any], compute: Callable[[], bytes]) -> bytes:
    """Returns the result of a pure function, from the cache if the cache has it.

    Warns in one line, once, if the file is damaged or cannot be written. There is no
    warning for a user without a home folder, who has no cache.

    Args:
      kind: the kind of content, the name of a folder.
      key: everything on which the content depends, as JSON values: arguments, versions,
        digests of the code, and `machine` if the numbers depend on the machine.
      compute: computes the content.
    """
    try:
        path = path_of(kind, key)
    except UserError:
        return compute()
    words, problem = _words(kind, key), ""
    try:
        stored = read(path)
        if stored is not None:
            return _content(stored, words)
    except (OSError, ValueError) as error:
        problem = f"{path} is not usable ({error}); it is computed again"
    content = compute()
    head = f"{words}\n{hashlib.sha256(content).hexdigest()}\n".encode()
    try:
        replace(path, head + content)
    except OSError as error:
        problem = problem or f"{kind} cannot be kept in {path.parent} ({error})"
    if problem:
        warnings.warn(problem, stacklevel=3)
    return content


def _words(kind: str, key: Mapping[str, Any]) -> str:
    return json.dumps({"format": _VERSION, "kind": kind, "key": key}, sort_keys=True)


class OfAnotherUser(ValueError):
    """A file belongs to another user, who may have written anything."""


def read(path: pathlib.Path) -> Optional[bytes]:
    """Reads the bytes of a file of the cache; returns None if there is no file.

    Raises:
      OSError: the file cannot be read.
      OfAnotherUser: the file belongs to another user.
      ValueError: the path is not a file.
    """
    if file_kinds.kind(path) is None:
        return None
    file_kinds.check(path)
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_uid not in (0, os.geteuid()):
                raise OfAnotherUser("it belongs to another user")
            return file.read()
    except FileNotFoundError:
        return None  # Another process has removed it.


def _content(stored: bytes, words: str) -> bytes:
    """Returns the content in the bytes of a file of `computed`.

    Raises:
      ValueError: the file is damaged, or has another key.
    """
    found, _, rest = stored.partition(b"\n")
    if found != words.encode():
        raise ValueError("it is for other parameters")
    digest, _, content = rest.partition(b"\n")
    if digest != hashlib.sha256(content).hexdigest().encode():
        raise ValueError("its content is damaged")
    return content
