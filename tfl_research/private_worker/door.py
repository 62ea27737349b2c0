"""Accepts connections of a worker's clients, and refuses other users."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import struct
import tempfile
from collections.abc import Sequence
from typing import Any, Optional

UNIX = "unix"
# The kernel's limit for a socket's path is 107 bytes.
_LONGEST_FOLDER = 100
_CREDENTIALS = "3i"
_ESTABLISHED = "01"
_PIECE = 1 << 16


class Door:
    """A listening socket: a Unix-domain socket of this user, or a TCP port.

    A Unix-domain socket is in a folder that only this user can enter. A port of a
    loopback address accepts only processes of this user and of root: the kernel's table
    of connections says which user owns each connection. A port of another address is
    open to everybody who can reach the port.

    Open the door before the process moves into another network.

    Attributes:
      address: the address to which gRPC connects.

    Args:
      listen: "unix", or ADDRESS:PORT with a numeric address; port 0 is any free port.

    Raises:
      OSError: the address does not belong to this machine, or the port is in use.
      ValueError: `listen` has another form.
    """

    def __init__(self, listen: str):
        self._user = os.geteuid()
        self._folder: Optional[str] = None
        self._tables: list[int] = []
        self._is_guarded = True
        if listen == UNIX:
            self._socket = self._unix()
            return
        host, _, port = listen.rpartition(":")
        found = ipaddress.ip_address(host.strip("[]"))
        family = socket.AF_INET if found.version == 4 else socket.AF_INET6
        self._socket = socket.create_server((str(found), int(port)), family=family)
        self.address = f"{host}:{self._socket.getsockname()[1]}"
        self._is_guarded = found.is_loopback
        if self._is_guarded:
            self._tables = open_tables()

    def _unix(self) -> socket.socket:
        self._folder = tempfile.mkdtemp(prefix="tfl_worker_")
        if len(os.fsencode(self._folder)) > _LONGEST_FOLDER:
            os.rmdir(self._folder)
            self._folder = tempfile.mkdtemp(prefix="tfl_worker_", dir="/tmp")
        path = os.path.join(self._folder, "s")
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.bind(path)
        server.listen()
        self.address = f"unix:{path}"
        return server

    def accept(self) -> socket.socket:
        """Returns the next connection of an allowed user; closes other connections."""
        while True:
            connection, peer = self._socket.accept()
            if not self._is_guarded or self._owners(connection, peer) <= {
                self._user,
                0,
            }:
                return connection
            connection.close()

    def _owners(self, connection: socket.socket, peer: Any) -> set[Optional[int]]:
        """Returns the users who can own the other end; None is an unknown user."""
        if connection.family == socket.AF_UNIX:
            size = struct.calcsize(_CREDENTIALS)
            found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
            return {struct.unpack(_CREDENTIALS, found)[1]}
        return owners(self._tables, peer[1], connection.getsockname()[1])

    def close(self) -> None:
        """Closes the socket and removes its folder."""
        self._socket.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def open_tables() -> list[int]:
    """Opens the kernel's tables of TCP connections; returns their descriptors.

    The tables show the network that the process had when it opened them.
    """
    return [
        os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        for path in ("/proc/net/tcp", "/proc/net/tcp6")
        if os.path.exists(path)
    ]


def owners(tables: Sequence[int], theirs: int, ours: int) -> set[Optional[int]]:
    """Finds the users who can own the other end of a loopback connection.

    Args:
      tables: the result of `open_tables`.
      theirs: port of the other end.
      ours: port of this end.

    Returns:
      User ids; {None} if the kernel does not list the connection.
    """
    ends = f":{theirs:04X}", f":{ours:04X}"
    found: set[Optional[int]] = set()
    for table in tables:
        # Each read has an offset, since threads may read at the same time.
        pieces, place = [], 0
        while piece := os.pread(table, _PIECE, place):
            pieces.append(piece)
            place += len(piece)
        for line in b"".join(pieces).decode("ascii").splitlines()[1:]:
            fields = line.split()
            if (fields[1][-5:], fields[2][-5:]) == ends and fields[3] == _ESTABLISHED:
                found.add(int(fields[7]))
    return found or {None}
