"""An append-only file of JSON lines, each carrying the hash of the line before it.

A line's last field is the SHA-256 of the line without that field; the field before
it repeats the last line's hash. Whoever can write the file can also compute a whole
new chain: only a position noted elsewhere (a checkpoint, a printed hash) shows that.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pathlib
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

FIRST = "0" * 64
# What lines begin with, a run's own and a shared ledger's.
_STARTS = (b'{"round":', b'{"run":"')
_READ = 1 << 20
_PATIENCE_SECONDS = 600.0
_WARN_SECONDS = 5.0


def encode(fields: Mapping[str, Any], previous: str) -> tuple[bytes, str]:
    """A line (without its line end) and its hash."""
    body = _json({**fields, "previous": previous})
    digest = hashlib.sha256(body).hexdigest()
    return body[:-1] + b',"hash":"%s"}' % digest.encode(), digest


def _json(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()


class HashChain:
    """An open chain file, read and verified up to a position.

    Whoever appends must hold the file's lock: `locked`, or one on `descriptor` that
    is held as long as the file is open.
    """

    def __init__(self, path: str | os.PathLike[str], *, writable: bool = True) -> None:
        """Opens the file and reads nothing yet.

        Args:
          path: the file; created when it is writable and missing.
          writable: whether lines will be appended.

        Raises:
          ValueError: the file cannot be opened.
        """
        self.path = pathlib.Path(path)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND if writable else os.O_RDONLY
        try:
            self.descriptor = os.open(self.path, flags | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ValueError(f"cannot open {path} ({error.strerror})") from error
        self._bytes = 0
        self._hashes: list[str] = []
        if writable and os.fstat(self.descriptor).st_size == 0:
            sync_folder(self.path.parent)

    def __len__(self) -> int:
        """Number of lines read or appended."""
        return len(self._hashes)

    @property
    def last_hash(self) -> str:
        """The hash that the next line will repeat."""
        return self._hashes[-1] if self._hashes else FIRST

    @property
    def position(self) -> dict[str, Any]:
        """How far the chain goes: {"lines": int, "hash": str}, to be kept elsewhere."""
        return {"lines": len(self), "hash": self.last_hash}

    def check_position(self, position: Mapping[str, Any]) -> None:
        """Checks that nothing that was there is gone.

        Args:
          position: as `position` gave it earlier.

        Raises:
          ValueError: lines were cut off the end since, or all were replaced.
        """
        lines, digest = position["lines"], position["hash"]
        if lines > len(self):
            raise ValueError(
                f"{self.path} has {len(self)} lines, but had {lines}: its last lines "
                "were lost, so ε would be understated; restore it from a copy"
            )
        if lines and self._hashes[lines - 1] != digest:
            raise ValueError(
                f"{self.path}, line {lines}: is another line than it was; the file "
                "was rewritten, so what was spent is unknown"
            )

    def read(self, *, repair: bool) -> list[dict[str, Any]]:
        """Reads and verifies the lines that were added since the last call.

        A last line without its line end is what a kill leaves behind in the middle
        of a write, if it begins as lines do.

        Args:
          repair: whether such a line is cut off, with a warning (call it with a
            lock: without one, a line may still be being written); else it is left.

        Returns:
          The lines' fields, without the hashes.

        Raises:
          ValueError: a line is malformed or edited, or one was lost, moved or
            inserted before it, or the file became shorter; names file and line.
        """
        size = os.fstat(self.descriptor).st_size
        if size < self._bytes:
            raise ValueError(
                f"{self.path}, line {len(self)}: is gone; the file became shorter "
                "while it was in use, so what was spent is unknown"
            )
        content = self._content(size)
        *lines, torn = content.split(b"\n")
        found = [self._accept(line) for line in lines]
        if torn and not any(torn[: len(s)] == s[: len(torn)] for s in _STARTS):
            raise ValueError(
                f"{self.path}, line {len(self) + 1}: not a ledger line; nothing was "
                "changed, give another file"
            )
        if torn and repair:
            warnings.warn(
                f"{self.path}: dropped line {len(self) + 1}, which was cut off while "
                "it was written (its round was never computed)",
                stacklevel=4,
            )
            os.ftruncate(self.descriptor, self._bytes)
            os.fsync(self.descriptor)
        return found

    @property
    def torn(self) -> bool:
        """Whether something follows the last whole line that was read."""
        return os.fstat(self.descriptor).st_size > self._bytes

    def _content(self, size: int) -> bytes:
        pieces, offset = [], self._bytes
        while offset < size:
            piece = os.pread(self.descriptor, min(_READ, size - offset), offset)
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
        return b"".join(pieces)

    def _accept(self, line: bytes) -> dict[str, Any]:
        where = f"{self.path}, line {len(self) + 1}"
        try:
            fields: dict[str, Any] = json.loads(line)
            previous, digest = fields.pop("previous"), fields.pop("hash")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{where}: not a ledger line ({error!r})") from error
        if encode(fields, previous) != (line, digest):
            raise ValueError(
                f"{where}: was edited after it was written, so what was spent is "
                "unknown; restore the file from a copy"
            )
        if previous != self.last_hash:
            raise ValueError(
                f"{where}: does not follow the line before it; a line was lost, moved "
                "or inserted here, so what was spent is unknown; restore the file "
                "from a copy"
            )
        self._advance(line, digest)
        return fields

    def _advance(self, line: bytes, digest: str) -> None:
        self._bytes += len(line) + 1
        self._hashes.append(digest)

    def append(self, fields: Mapping[str, Any]) -> None:
        """Puts a line on disk: written with one call and synced before it returns.

        Everything must have been read, and the caller must hold a lock.

        Raises:
          ValueError: the line could not be written; nothing of it is left behind.
        """
        line, digest = encode(fields, self.last_hash)
        try:
            written = os.write(self.descriptor, line + b"\n")
            if written != len(line) + 1:
                # What a write says that a full disk cuts short.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self.descriptor)
        except OSError as error:
            os.ftruncate(self.descriptor, self._bytes)
            raise ValueError(
                f"cannot write to {self.path} ({error.strerror}); nothing was lost: "
                "mend that, then resume"
            ) from error
        self._advance(line, digest)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the file's lock; waits for other processes, and says so after 5 s.

        Raises:
          ValueError: the file system has no locks, or another process held the lock
            for ten minutes.
        """
        started, warned = time.monotonic(), False
        while not self._try_lock():
            waited = time.monotonic() - started
            if waited > _PATIENCE_SECONDS:
                raise ValueError(
                    f"{self.path} was locked by another process for "
                    f"{_PATIENCE_SECONDS:g} s; end that process, then resume"
                )
            if waited > _WARN_SECONDS and not warned:
                warned = True
                warnings.warn(
                    f"waiting for {self.path}, which another process has locked",
                    stacklevel=5,
                )
            time.sleep(0.002)
        try:
            yield
        finally:
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise ValueError(
                f"cannot lock {self.path} ({error.strerror}); put the ledger on a file "
                "system that has locks"
            ) from error
        return True

    def close(self) -> None:
        """Closes the file, which releases its lock; may be called again."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def sync_folder(folder: pathlib.Path) -> None:
    """Makes a new file's name durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class ChainFile(contextlib.AbstractContextManager):
    """A ledger on a chain file, closed at the end of its context.

    Attributes:
      path: of the file.
    """

    def __init__(self, chain: HashChain) -> None:
        self._chain = chain
        self.path = chain.path

    @property
    def position(self) -> dict[str, Any]:
        """How far the ledger goes, see `HashChain.position`; as last read."""
        return self._chain.position

    def check_position(self, position: Mapping[str, Any]) -> None:
        """Raises ValueError if lines that were there are gone or others."""
        self._chain.check_position(position)

    def close(self) -> None:
        """Releases the file; may be called again."""
        self._chain.close()

    def __exit__(self, *_: object) -> None:
        self.close()
