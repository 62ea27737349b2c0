"""Frames between an engine's processes and ours, over Unix-domain sockets.

This file runs in the environment of NVIDIA FLARE or Flower, beside their code, and
imports the standard library alone. A frame is eight bytes of length, big-endian, and
as many bytes. `tfl_research.federation.wire.carriers` documents the frames. A relay
changes nothing in them and reads no message.
"""

import os
import select
import socket
import struct
import threading
import time

_LENGTH = struct.Struct(">Q")
_ENVELOPE = struct.Struct(">H")
_NUMBER = struct.Struct(">Q")
_MOST_BYTES = 1 << 32
# How long a relay waits before it tries again to reach a coordinator that is not there.
_PAUSE = 0.3


def send(connection, *parts):
    """Sends the parts, joined, as one frame."""
    connection.sendall(_LENGTH.pack(sum(len(part) for part in parts)))
    for part in parts:
        connection.sendall(part)


def receive(connection):
    """The next frame; ConnectionError when the other side has gone."""
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    if length > _MOST_BYTES:
        raise ConnectionError(f"a frame of {length} bytes is longer than any message")
    return _exactly(connection, length)


def connect(path):
    """A connection to a process of this user; OSError if none listens there."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        _, user, _ = struct.unpack("3i", peer)
        if user not in (os.getuid(), 0):
            raise ConnectionError(f"{path} belongs to a process of user {user}")
    except OSError:
        connection.close()
        raise
    return connection


def ask(path, message):
    """The reply of the process behind a socket; empty if it cannot be reached."""
    try:
        with connect(path) as connection:
            send(connection, message)
            return receive(connection)
    except OSError as error:
        print(f"{path}: no answer ({error})", flush=True)
        return b""


def reachable(path):
    """Whether a process listens on a socket."""
    try:
        connect(path).close()
    except OSError:
        return False
    return True


class Coordinator:
    """The coordinator's socket, as the engine's server sees it.

    The coordinator asks and the relay answers. Requests to several sites run at once.
    A coordinator that went away and came back is told of the sites again, and repeats
    its open requests.

    Args:
      path: the coordinator's socket.
      ask: called with a site's name and a message, in a thread of its own; returns the
        site's reply, or no bytes if the site cannot be reached.
    """

    def __init__(self, path, ask):
        self._path = path
        self._ask = ask
        self._connection = None
        self._sites = None
        self._sending = threading.Lock()

    def announce(self, sites):
        """Says which sites can be reached now, if they have changed."""
        if sites != self._sites:
            self._sites = sites
            self._announce(self._connection)

    def serve(self, stopped):
        """Answers the coordinator's requests until `stopped()`."""
        while not stopped():
            try:
                connection = connect(self._path)
            except OSError:
                time.sleep(_PAUSE)
                continue
            print(f"{self._path}: the coordinator is there", flush=True)
            try:
                self._answer(connection, stopped)
            except OSError as error:
                print(f"{self._path}: the coordinator has gone ({error})", flush=True)
            finally:
                with self._sending:
                    self._connection = None
                connection.close()

    def _answer(self, connection, stopped):
        with self._sending:
            self._connection = connection
        if self._sites is not None:
            self._announce(connection)
        while not stopped():
            # A frame that has begun is read whole; between frames, look at `stopped`.
            if not select.select([connection], [], [], 1.0)[0]:
                continue
            frame = receive(connection)
            thread = threading.Thread(
                target=self._reply, args=(connection, frame), daemon=True
            )
            thread.start()

    def _reply(self, connection, frame):
        (length,) = _ENVELOPE.unpack_from(frame)
        begin = _ENVELOPE.size + length
        name = frame[_ENVELOPE.size : begin].decode("utf-8")
        body = begin + _NUMBER.size
        self._send(connection, frame[:body], self._ask(name, frame[body:]))

    def _announce(self, connection):
        names = "\n".join(sorted(self._sites)).encode("utf-8")
        self._send(connection, b"sites\n", names)

    def _send(self, connection, *parts):
        """Sends a frame, unless the coordinator has a new connection or none."""
        with self._sending:
            if connection is not None and connection is self._connection:
                try:
                    send(connection, *parts)
                except OSError as error:
                    print(f"{self._path}: a frame was lost ({error})", flush=True)


def _exactly(connection, length):
    data = bytearray(length)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise ConnectionError("closed")
        view = view[count:]
    return bytes(data)
