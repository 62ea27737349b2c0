"""Frames between an engine's processes and ours, over Unix-domain sockets.

This file runs in the environment of NVIDIA FLARE or Flower, and imports only the
standard library. A frame is eight bytes for the length, big-endian, and then this
number of bytes. `tfl_research.federation.wire.carriers` documents the frames. A relay
changes nothing in them and reads no message.
"""

import contextlib
import os
import socket
import struct

_LENGTH = struct.Struct(">Q")
_MOST_BYTES = 1 << 32
# The longest path that the kernel takes has 107 bytes.
_PATH_LIMIT = 100


def send(connection, *parts):
    """Sends the parts, joined, as one frame; TypeError if a part is not bytes.

    Nothing is sent then, because half a frame would shift all later frames.
    """
    for part in parts:
        if not isinstance(part, (bytes, bytearray)):
            raise TypeError(f"expected bytes, got {type(part).__name__}")
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
        with _address(path) as address:
            connection.connect(address)
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        _, user, _ = struct.unpack("3i", peer)
        if user not in (os.getuid(), 0):
            raise ConnectionError(
                f"{path} belongs to a process of user {user}, not to this user"
            )
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
    except (OSError, TypeError) as error:
        print(f"{path}: no answer ({error})", flush=True)
        return b""


def reachable(path):
    """Whether a process listens on a socket."""
    try:
        connect(path).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _address(path):
    """A path of the socket that is short enough for the kernel."""
    if len(os.fsencode(path)) <= _PATH_LIMIT:
        yield path
        return
    folder, name = os.path.split(path)
    opened = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{opened}/{name}"
    finally:
        os.close(opened)


def _exactly(connection, length):
    data = bytearray(length)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise ConnectionError("the other side closed the connection")
        view = view[count:]
    return bytes(data)
