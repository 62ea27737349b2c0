"""An append-only file of JSON lines; each line has the hash of the line before it.

A line's last field is the SHA-256 of the line without this field. The field before
the last repeats the previous line's hash. Whoever can write the file can also compute
a new chain. Only a position that was noted elsewhere (a checkpoint, a printed hash)
reveals a new chain.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from tfl_research.privacy.ledger import head_file
from tfl_research.storage.files import atomic, file_kinds, user_paths

NO_LINE_HASH = "0" * 64
# The first bytes of a line in a run's own ledger, and in a shared ledger.
_STARTS = (
    *(b'{"ledger":', b'{"round":', b'{"restart":', b'{"release":"'),
    *(b'{"run":"', b'{"budget":'),
)
_READ = 1 << 20
_LONGEST_REASON = 120
# Errors of `json.loads` for files that are no JSON; RecursionError for deep nesting.
NOT_JSON = (ValueError, RecursionError)
_PATIENCE_SECONDS = 600.0
_WARN_SECONDS = 5.0


def encode(fields: Mapping[str, Any], previous: str) -> tuple[bytes, str]:
    """Returns a line (without its line end) and the line's hash."""
    body = _json({**fields, "previous": previous})
    digest = hashlib.sha256(body).hexdigest()
    return body[:-1] + b',"hash":"%s"}' % digest.encode(), digest


def _json(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()


class HashChain:
    """An open chain file, read and verified up to a position.

    Hold the file's lock to append: by `locked`, or by a lock on `descriptor` for as
    long as the file is open.

    Attributes:
      path: the path of the file.
      descriptor: the descriptor of the open file.
      head: the position in the head file when the chain file was opened, or None.
    """

    def __init__(self, path: str | os.PathLike[str], *, writable: bool = True) -> None:
        """Opens the file and reads nothing yet.

        Args:
          path: the file; a missing file is created if `writable`.
          writable: whether lines will be appended.

        Raises:
          ValueError: the file cannot be opened, or is no file.
        """
        self.path = user_paths.expanded(path)
        file_kinds.check(self.path)
        # The head is read before any line, so that a run that is writing lines at the
        # same time never has fewer lines than the head says.
        self.head = head_file.read(self.path)
        self._head_file = head_file.Writer(self.path)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND if writable else os.O_RDONLY
        try:
            self.descriptor = os.open(self.path, flags | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ValueError(f"cannot open {path} ({error.strerror})") from error
        self._bytes = 0
        self._hashes: list[str] = []
        if writable and os.fstat(self.descriptor).st_size == 0:
            try:
                atomic.sync_folder(self.path.parent)
            except OSError as error:
                os.close(self.descriptor)
                raise ValueError(f"cannot write {path} ({error.strerror})") from error

    def __len__(self) -> int:
        """Returns the number of lines read or appended."""
        return len(self._hashes)

    @property
    def last_hash(self) -> str:
        """The hash that the next line will repeat."""
        return self._hashes[-1] if self._hashes else NO_LINE_HASH

    @property
    def position(self) -> dict[str, Any]:
        """Number of lines and last hash: {"lines": int, "hash": str}."""
        return {"lines": len(self), "hash": self.last_hash}

    def check_position(self, position: Mapping[str, Any]) -> None:
        """Checks that the chain still has the lines that it had earlier.

        Args:
          position: an earlier result of `position`.

        Raises:
          ValueError: the last lines were cut off since then, or lines were replaced.
        """
        lines, digest = position["lines"], position["hash"]
        if lines > len(self):
            raise ValueError(
                f"{self.path} has {len(self)} lines, but had {lines}: its last lines "
                "were lost, so ε would be understated; restore it from a copy"
            )
        if lines and self._hashes[lines - 1] != digest:
            raise ValueError(
                f"{self.path}, line {lines}: differs from the line that was there "
                "before; the file was rewritten, so nobody knows what was spent; "
                "restore it from a copy"
            )

    def check_head(self) -> None:
        """Checks that the lines read reach the recorded head.

        Raises:
          ValueError: the last lines were cut off, or lines were replaced.
        """
        if self.head is None:
            return
        try:
            self.check_position(self.head)
        except ValueError as error:
            raise ValueError(
                f"{error} (noted in {head_file.path_of(self.path)})"
            ) from error

    def read(self, *, repair: bool) -> list[dict[str, Any]]:
        """Reads and verifies the lines that were added since the last call.

        A kill in the middle of a write leaves a last line without a line end.

        Args:
          repair: whether to cut off such a line, with a warning. If so, hold the lock,
            since another process may still be writing the line.

        Returns:
          The lines' fields, without the hashes.

        Raises:
          ValueError: a line is malformed or edited, a line was lost, moved or inserted,
            or the file became shorter; the message names file and line.
        """
        size = os.fstat(self.descriptor).st_size
        if size < self._bytes:
            raise ValueError(
                f"{self.path}, line {len(self)}: is gone; the file became shorter "
                "while it was in use, so nobody knows what was spent; restore it from "
                "a copy"
            )
        content = self._content(size)
        *lines, torn = content.split(b"\n")
        parsed_lines = [self._accept(line) for line in lines]
        if torn and not any(torn[: len(s)] == s[: len(torn)] for s in _STARTS):
            raise ValueError(
                f"{self.path}, line {len(self) + 1}: not a ledger line; nothing was "
                "changed; give another file"
            )
        if torn and repair:
            warnings.warn(
                f"{self.path}: dropped line {len(self) + 1}, which was cut off while "
                "it was written (its round was never computed)",
                stacklevel=4,
            )
            os.ftruncate(self.descriptor, self._bytes)
            os.fsync(self.descriptor)
        return parsed_lines

    @property
    def torn(self) -> bool:
        """Whether bytes follow the last complete line that was read."""
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
            written = encode(fields, previous)
        except (*NOT_JSON, TypeError, KeyError, AttributeError) as error:
            # JSON's message can repeat the line, which may be long; it is shortened.
            why = f"{type(error).__name__}: {error}"
            why = why if len(why) <= _LONGEST_REASON else f"{why[:_LONGEST_REASON]}..."
            raise ValueError(f"{where}: not a ledger line ({why})") from error
        if written != (line, digest):
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
        """Writes a line to disk with one call, and syncs before it returns.

        The caller must hold a lock and have read all lines.

        Raises:
          ValueError: the line could not be written; no part of the line is left behind.
        """
        line, digest = encode(fields, self.last_hash)
        try:
            written = os.write(self.descriptor, line + b"\n")
            if written != len(line) + 1:
                # A full disk cuts a write short.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self.descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self.descriptor, self._bytes)
            raise ValueError(
                f"cannot write to {self.path} ({error.strerror}); nothing was lost; "
                "make the file writable, then resume"
            ) from error
        self._advance(line, digest)
        self.check_unchanged()
        self._head_file.write(self.position)

    def check_unchanged(self) -> None:
        """Checks that nobody else changed the file while it is open.

        The caller must hold a lock and have read all lines.

        Raises:
          ValueError: the file's length is not that of its lines, or the path now names
            another file.
        """
        ours = os.fstat(self.descriptor)
        try:
            same = os.path.samestat(ours, os.stat(self.path))
        except FileNotFoundError:
            same = False
        if not same:
            raise ValueError(
                f"{self.path} was removed or replaced while the run used it, so what "
                "was spent is unknown; restore the file from a copy"
            )
        if ours.st_size != self._bytes:
            raise ValueError(
                f"{self.path} has {ours.st_size} bytes, its {len(self)} lines have "
                f"{self._bytes}: it was changed while the run used it, so what was "
                "spent is unknown; restore the file from a copy"
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the file's lock; waits for other processes, with a warning after 5 s.

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
        self._head_file.close()
