"""Where a process and its children listen, as `ss -ltnp` shows it."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import pathlib
import threading
from collections.abc import Iterator

import process_tree

_LISTENS = "0A"


def _sockets(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for descriptor in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(descriptor.path)
                if target.startswith("socket:["):
                    yield target[8:-1]


def _address(text: str) -> str:
    host, _, port = text.partition(":")
    words = bytes.fromhex(host)
    # The kernel prints words of four bytes as they stand in memory.
    turned = b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))
    return f"{ipaddress.ip_address(turned)} {int(port, 16)}"


def listeners(pid: int) -> set[str]:
    """Returns "ADDRESS PORT" of each socket on which a process or its children listen.

    In this machine's network: what happens in another network namespace, nobody can
    reach from here.
    """
    held = {
        socket
        for each in (pid, *process_tree.descendants(pid))
        for socket in _sockets(each)
    }
    found = set()
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENS and fields[9] in held:
                found.add(_address(fields[1]))
    return found


def off_loopback(pid: int) -> set[str]:
    """Those of `listeners` that other machines could reach."""
    return {
        each
        for each in listeners(pid)
        if not ipaddress.ip_address(each.split()[0]).is_loopback
    }


class Watch:
    """Looks for listeners off loopback of this process and its children, in a thread.

    Attributes:
      found: all that were seen.
      looks: how often it looked.
    """

    def __init__(self, seconds: float = 0.5):
        self.found: set[str] = set()
        self.looks = 0
        self._seconds = seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._done.wait(self._seconds):
            self.found |= off_loopback(os.getpid())
            self.looks += 1

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
