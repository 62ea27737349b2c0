"""Keeps on disk the requests of a run that a site took, and its last reply.

Files of a run's folder at a site:

- `requests`: a line for each request that was taken, "SEQUENCE HMAC\\n": the number in
  decimal, and the HMAC of the sealed request in hexadecimal. A line is on disk before
  the request is handled. A last line without its end does not count.
- `reply`: the sealed reply to the last request whose reply was made.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import re

from tfl_research.errors import UserError
from tfl_research.federation.wire import authentication, questions
from tfl_research.federation.wire.authentication import AuthenticationError
from tfl_research.federation.wire.sockets import private_folder
from tfl_research.storage.files import atomic

_LINE = re.compile(rb"([0-9]{1,20}) ([0-9a-f]{64})")
_QUESTION_FILES = {
    f"{name}{suffix}"
    for name in ("requests", "reply")
    for suffix in ("", atomic.TEMPORARY_SUFFIX)
}


class Requests:
    """The requests of one run at a site.

    A request is handled again only if the site was killed before it kept the reply. So
    handling a request twice must be safe.

    Attributes:
      folder: the folder of the run.
    """

    def __init__(self, folder: pathlib.Path, key: bytes):
        """Reads the files, and makes missing files.

        Args:
          folder: the folder of the run at the site.
          key: the key of the site.

        Raises:
          UserError: the folder cannot be used, or its files are damaged.
        """
        self.folder = folder
        self._key = key
        private_folder(folder)
        path = folder / "requests"
        self._sequence, self._mac = _last(path)
        # The file starts again with the last line; this process appends its lines.
        last = b"%d %s\n" % (self._sequence, self._mac.hex().encode())
        atomic.write(path, last if self._mac else b"", mode=0o600)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def taken(self, sequence: int, request: bytes) -> bytes | None:
        """Records a request durably.

        Args:
          sequence: the request's number.
          request: the sealed request.

        Returns:
          The kept reply, if this is the last request again; None if the request must be
          handled.

        Raises:
          AuthenticationError: the number is lower than the last one, or the last
            request had the same number and other bytes.
        """
        mac = authentication.mac_of(request)
        if self._mac and sequence <= self._sequence:
            if (sequence, mac) != (self._sequence, self._mac):
                raise AuthenticationError(
                    f"request {sequence} of the run {self.folder.name} is not new: "
                    f"request {self._sequence} came before; it was replayed, or the "
                    "coordinator lost its file of sequence numbers"
                )
            return self._kept()
        self._append(b"%d %s\n" % (sequence, mac.hex().encode()))
        self._sequence, self._mac = sequence, mac
        return None

    def _append(self, line: bytes) -> None:
        before = os.fstat(self._file).st_size
        try:
            if os.write(self._file, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(self._file)
        except OSError as error:
            os.ftruncate(self._file, before)
            raise UserError(
                f"cannot write {self.folder / 'requests'} ({error.strerror}); free "
                "space, or make the folder writable"
            ) from error

    def keep(self, reply: bytes) -> None:
        """Keeps the sealed reply to the last request."""
        path = self.folder / "reply"
        temporary = path.with_name(path.name + atomic.TEMPORARY_SUFFIX)
        # After a kill, the file is complete. If the machine stops, the file may be lost
        # or damaged. The seal then does not fit, and the request is handled again.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(reply)
        os.replace(temporary, path)

    def _kept(self) -> bytes | None:
        try:
            reply = (self.folder / "reply").read_bytes()
            seal, _ = authentication.opened(reply, self._key)
        except (OSError, AuthenticationError):
            return None
        return reply if seal.answered == self._mac else None

    def close(self) -> None:
        """Closes the files."""
        os.close(self._file)


class Question:
    """The requests of a question before a run, of which nothing is kept on disk.

    A question changes nothing at a site, so the site may answer it again.
    """

    def __init__(self) -> None:
        self._request, self._reply = b"", b""

    def taken(self, sequence: int, request: bytes) -> bytes | None:
        """Returns the reply, if this is the last request again; otherwise None."""
        del sequence
        mac = authentication.mac_of(request)
        if self._reply and mac == self._request:
            return self._reply
        self._request, self._reply = mac, b""
        return None

    def keep(self, reply: bytes) -> None:
        """Keeps the sealed reply to the last request, in memory."""
        self._reply = reply

    def close(self) -> None:
        """Does nothing: there are no files."""


def remove_questions(runs: pathlib.Path) -> None:
    """Removes folders that earlier versions made for questions.

    A folder that holds anything else than requests and a reply stays.

    Args:
      runs: the folder of the folders of runs.
    """
    for folder in runs.glob(f"{questions.PREFIX}*"):
        found = {path.name for path in folder.iterdir()} if folder.is_dir() else {""}
        if folder.is_symlink() or not found <= _QUESTION_FILES:
            continue
        # Another user's folder may not be removable; the site works all the same.
        with contextlib.suppress(OSError):
            for name in found:
                (folder / name).unlink()
            folder.rmdir()


def _last(path: pathlib.Path) -> tuple[int, bytes]:
    """Number and HMAC of the last request; 0 and no bytes for none."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return 0, b""
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror}); make the file readable, or "
            "restore it"
        ) from error
    lines = content.split(b"\n")[:-1]
    if not lines:
        return 0, b""
    found = _LINE.fullmatch(lines[-1])
    if found is None:
        raise UserError(
            f"{path} is damaged: its last line is {lines[-1][:80]!r}; restore the "
            "file, or remove the run's folder if the run has ended"
        )
    return int(found[1]), bytes.fromhex(found[2].decode())
