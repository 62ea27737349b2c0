"""A coordinator and sites that only echo, for tests of what carries messages."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import struct
import threading
import time
from collections.abc import Iterator


def _exactly(connection, length):
    data = bytearray(length)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise ConnectionError("closed")
        view = view[count:]
    return bytes(data)


def receive(connection):
    """One frame."""
    return _exactly(connection, struct.unpack(">Q", _exactly(connection, 8))[0])


def send(connection, payload):
    """Sends one frame."""
    connection.sendall(struct.pack(">Q", len(payload)) + payload)


class EchoSite:
    """A site's process: replies with its name and the message."""

    def __init__(self, name: str, path: pathlib.Path, answer=None):
        self.name = name
        self.requests = 0
        self._answer = answer or (lambda message: name.encode() + b"|" + message)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._path = path
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                while True:
                    message = receive(connection)
                    self.requests += 1
                    send(connection, self._answer(message))

    def close(self):
        """Ends the site."""
        os.unlink(self._path)
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class FakeCoordinator:
    """Listens for a relay and asks sites through it, one exchange at a time."""

    def __init__(self, path: pathlib.Path):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._number = 0
        self._sites: set[str] = set()
        self._outstanding: dict[tuple[str, int], bytes] = {}
        self._replies: dict[str, bytes] = {}
        self._changed = threading.Condition()
        self._relay: socket.socket | None = None
        threading.Thread(target=self._serve, daemon=True).start()

    def wait_for_sites(self, names: set[str], seconds: float) -> float:
        """Seconds until the relay has announced exactly these sites."""
        begun = time.monotonic()
        with self._changed:
            if not self._changed.wait_for(lambda: self._sites == names, seconds):
                raise TimeoutError(f"{self._sites} after {seconds} s, not {names}")
        return time.monotonic() - begun

    def start(self, requests: dict[str, bytes]) -> None:
        """Sends one message to each site."""
        with self._changed:
            self._number += 1
            self._replies = {}
            for name, message in requests.items():
                self._outstanding[name, self._number] = message
                self._ask(name, self._number, message)

    def replies(self, seconds: float) -> dict[str, bytes]:
        """Waits for all replies."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._outstanding, seconds):
                raise TimeoutError(f"no reply of {list(self._outstanding)}")
            return self._replies

    def exchange(self, requests: dict[str, bytes], seconds: float) -> dict[str, bytes]:
        """Asks and waits."""
        self.start(requests)
        return self.replies(seconds)

    def close(self):
        """Ends the coordinator."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        if self._relay is not None:
            with contextlib.suppress(OSError):
                self._relay.shutdown(socket.SHUT_RDWR)

    def _ask(self, name, number, message):
        head = struct.pack(">H", len(name)) + name.encode() + struct.pack(">Q", number)
        if self._relay is not None:
            with contextlib.suppress(OSError):
                send(self._relay, head + message)

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with self._changed:
                self._relay = connection
                for (name, number), message in list(self._outstanding.items()):
                    self._ask(name, number, message)
            with contextlib.suppress(OSError):
                for frame in _frames(connection):
                    self._take(frame)
            with self._changed:
                self._relay = None
                self._sites = set()

    def _take(self, frame):
        with self._changed:
            if frame.startswith(b"sites\n"):
                names = frame[len(b"sites\n") :].decode()
                self._sites = set(names.split("\n")) - {""}
            else:
                (length,) = struct.unpack(">H", frame[:2])
                name = frame[2 : 2 + length].decode()
                (number,) = struct.unpack(">Q", frame[2 + length : 10 + length])
                if self._outstanding.pop((name, number), None) is not None:
                    self._replies[name] = frame[10 + length :]
            self._changed.notify_all()


def _frames(connection) -> Iterator[bytes]:
    while True:
        yield receive(connection)
