"""Unix-domain sockets of one user, and frames on them: 8 bytes of length, payload."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import socket
import stat
import struct
from collections import deque
from collections.abc import Iterator

from tfl_research.errors import UserError

_LENGTH = struct.Struct(">Q")
_CREDENTIALS = struct.Struct("3i")
_CHUNK = 2**18
# The longest path of a socket; the kernel accepts at most 107 bytes.
_PATH_LIMIT = 100
# The longest name of a socket, behind "/proc/self/fd/NUMBER/".
_NAME_LIMIT = 80


class FrameError(UserError):
    """A peer sent no frame or too large a frame, or is another user."""


class Connection:
    """A connected socket that never blocks: frames in, frames out.

    Attributes:
      socket: the socket, for a selector.
      name: the name of the peer, for messages.
    """

    def __init__(self, connected: socket.socket, name: str, limit_bytes: int):
        """Takes the socket.

        Args:
          connected: closed by `close`.
          name: the name of the peer, for messages.
          limit_bytes: the longest payload that is received.
        """
        connected.setblocking(False)
        self.socket = connected
        self.name = name
        self._limit = limit_bytes
        self._received = bytearray()
        self._to_send: deque[memoryview] = deque()
        self._drops = False

    @property
    def sends(self) -> bool:
        """Whether bytes wait to be sent."""
        return bool(self._to_send)

    def put(self, payload: bytes) -> None:
        """Adds a frame to what `flush` sends."""
        for part in (_LENGTH.pack(len(payload)), payload):
            if part:
                self._to_send.append(memoryview(part))

    def flush(self) -> None:
        """Sends what the peer takes now.

        Raises:
          OSError: the peer is gone.
        """
        while self._to_send:
            try:
                sent = self.socket.send(self._to_send[0], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            if sent == len(self._to_send[0]):
                self._to_send.popleft()
            else:
                self._to_send[0] = self._to_send[0][sent:]

    def frames(self) -> Iterator[bytes]:
        """The payloads that have come in full.

        The memory is at most the number of sent bytes, whatever length a frame claims.

        Raises:
          EOFError: the peer closed its end, and all its frames have been returned.
          FrameError: a frame is above the limit.
          OSError: the peer is gone.
        """
        while True:
            try:
                part = self.socket.recv(_CHUNK)
            except BlockingIOError:
                return
            if not part:
                raise EOFError(f"{self.name} closed the connection")
            if self._drops:
                continue
            self._received += part
            while (frame := self._frame()) is not None:
                yield frame

    def drop_rest(self) -> None:
        """Reads and drops further bytes, so that the peer can read a last frame."""
        self._drops = True
        self._received.clear()

    def _frame(self) -> bytes | None:
        if len(self._received) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._received)
        if length > self._limit:
            raise FrameError(
                f"{self.name} sends a frame of {length} bytes, above the limit of "
                f"{self._limit}"
            )
        end = _LENGTH.size + length
        if len(self._received) < end:
            return None
        frame = bytes(memoryview(self._received)[_LENGTH.size : end])
        del self._received[:end]
        return frame

    def close(self) -> None:
        """Closes the socket."""
        self.socket.close()


class Listener:
    """A listening socket at a path, which only this user can reach.

    The file PATH.lock in the same folder is locked while the listener exists, so that a
    second process cannot take over the path. A socket that a killed process left is
    replaced. Any other file stays, and is refused.

    Attributes:
      socket: the socket, for a selector.
      path: the path of the socket.
    """

    def __init__(self, path: pathlib.Path, limit_bytes: int):
        """Listens; connections wait until `accept` takes them.

        Raises:
          UserError: another process listens at the path, there is another file than a
            socket, other users can enter the folder, or the socket cannot be made.
        """
        self.path = path
        self._limit = limit_bytes
        if len(os.fsencode(path.name)) > _NAME_LIMIT:
            raise UserError(
                f"cannot listen at {path}: the name of the socket's file has more than "
                f"{_NAME_LIMIT} bytes; give a shorter name"
            )
        private_folder(path.parent)
        self._lock = locked(
            path.with_name(path.name + ".lock"), f"another process listens at {path}"
        )
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _remove_socket(path)
            with _address(path) as address:
                self.socket.bind(address)
            os.chmod(path, 0o600)
            self.socket.listen(128)
            self.socket.setblocking(False)
        except OSError as error:
            self._release()
            raise UserError(
                f"cannot listen at {path} ({error.strerror}); give another path"
            ) from error
        except UserError:
            self._release()
            raise

    def accept(self) -> Connection | None:
        """The next connection; None if none waits.

        Raises:
          FrameError: another user connected; that connection is closed.
        """
        try:
            connected, _ = self.socket.accept()
        except OSError:
            return None
        return _checked(connected, f"the process at {self.path.name}", self._limit)

    def close(self) -> None:
        """Stops listening and removes the socket's file."""
        self.path.unlink(missing_ok=True)
        self._release()

    def _release(self) -> None:
        self.socket.close()
        os.close(self._lock)


def _remove_socket(path: pathlib.Path) -> None:
    """Removes the socket that a killed process left.

    Raises:
      UserError: there is another file, which may be a user's.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UserError(
            f"cannot listen at {path}: there is another file than a socket; give "
            "another path, or move the file away"
        )
    path.unlink(missing_ok=True)


def connected(path: pathlib.Path, name: str, limit_bytes: int) -> Connection:
    """A connection to the process of this user that listens at the path.

    Args:
      path: the path of the socket.
      name: the name of the peer, for messages.
      limit_bytes: the longest payload that is received.

    Raises:
      OSError: no process listens there, or too many connections wait.
      FrameError: another user listens there.
    """
    connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        with _address(path) as address:
            connecting.connect(address)
    except BaseException:
        connecting.close()
        raise
    return _checked(connecting, name, limit_bytes)


def locked(path: pathlib.Path, taken: str) -> int:
    """Locks a file, which is made if it is missing, for as long as it is open.

    Args:
      path: the path of the file, in a folder that only this user can enter.
      taken: says what it means that another process has the lock.

    Returns:
      The descriptor of the open file; close it to release the lock.

    Raises:
      UserError: another process has the lock, or the file cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); remove it, or give another path"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UserError(f"{taken}; end that process, or give another path") from error
    except OSError as error:
        os.close(descriptor)
        raise UserError(
            f"cannot lock {path} ({error.strerror}); use a file system that has locks"
        ) from error
    return descriptor


def private_folder(folder: pathlib.Path) -> None:
    """Makes a missing folder with mode 0700.

    Raises:
      UserError: the folder cannot be made, or other users can enter it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise UserError(
            f"cannot make {folder} ({error.strerror}); give another path"
        ) from error
    if status.st_uid != os.geteuid():
        raise UserError(f"{folder} belongs to another user; choose another folder")
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UserError(
            f"others can enter {folder} (mode {stat.S_IMODE(status.st_mode):04o}); "
            "chmod 700 it"
        )


def _checked(connected: socket.socket, name: str, limit_bytes: int) -> Connection:
    found = connected.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
    )
    _, uid, _ = _CREDENTIALS.unpack(found)
    if uid != os.geteuid():
        connected.close()
        raise FrameError(f"{name} is a process of another user (uid {uid})")
    return Connection(connected, name, limit_bytes)


@contextlib.contextmanager
def _address(path: pathlib.Path) -> Iterator[str]:
    """A path of the socket that is short enough for the kernel."""
    if len(os.fsencode(path)) <= _PATH_LIMIT:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
