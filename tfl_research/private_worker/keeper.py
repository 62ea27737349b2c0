"""The program that keeps a worker of TFF; see the package.

    python -m tfl_research.private_worker.keeper '{"binary": FILE, "listen": "unix"}'

This program prints a line of JSON: the worker's address and process id, or the reason
why the worker does not run. The worker ends with this program, and this program ends
with the worker.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Optional

from tfl_research.private_worker import network
from tfl_research.private_worker.door import Door
from tfl_research.private_worker.xla_flags import with_flags

# Exit codes. If a signal ended the worker, the code is 128 plus the signal's number.
NOT_ISOLATED, NOT_LISTENING = 3, 4
_START_SECONDS = 60.0
_PIECE = 1 << 20
# Each connection has two descriptors and two threads.
_MOST_CONNECTIONS = 200
_PAUSE_SECONDS = 0.1


class Keeper:
    """A running worker, and the connections to it.

    Args:
      binary: path of TFF's worker.
      door: accepts clients' connections.
      renews: whether a used worker is replaced when its last connection is closed. A
        worker would keep the values that its clients have not released.
      isolated: whether this process has its own network.
    """

    def __init__(self, binary: str, door: Door, *, renews: bool, isolated: bool):
        self._binary, self._door = binary, door
        self._renews, self._isolated = renews, isolated
        self._ports = itertools.count(10001)
        self._lock = threading.Lock()
        self._connections = 0
        self._events: queue.Queue[Optional[int]] = queue.Queue()
        self._process: Optional[subprocess.Popen[bytes]] = None
        # None while a worker is replaced.
        self._port: Optional[int] = None

    @property
    def pid(self) -> Optional[int]:
        """The worker's process id."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts a worker, which ends with this process.

        Call it in the main thread: the kernel ends the worker with the thread that
        started the worker.
        """
        port = next(self._ports) if self._isolated else _unused_port()
        parent = os.getpid()
        process = subprocess.Popen(
            [self._binary, f"--port={port}"],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            # The lines on its start name ports that only this process can reach.
            env={
                "TF_CPP_MIN_LOG_LEVEL": "1",
                **os.environ,
                "XLA_FLAGS": with_flags(os.environ.get("XLA_FLAGS", "")),
            },
            preexec_fn=lambda: network.end_with_parent(parent, signal.SIGKILL),
        )
        self._process, self._port = process, port
        _in_background(lambda: self._events.put(process.wait()))

    def serve(self) -> int:
        """Relays connections until the worker ends; returns its code."""
        _in_background(self._accept)
        while True:
            code = self._events.get()
            if code is None:
                # The last connection was closed.
                with self._lock:
                    if not self._connections and self._port is not None:
                        self._port = None
                        self.end()
            elif self._port is None:
                self.start()
            else:
                return code

    def end(self) -> None:
        """Ends the worker."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def _accept(self) -> None:
        while True:
            try:
                client = self._door.accept()
                if self._connections >= _MOST_CONNECTIONS:
                    client.close()
                    continue
                _in_background(lambda client=client: self._relay(client))
            except (OSError, RuntimeError):
                # No descriptor or thread is left, or a client went while it was
                # accepted. Others are served later.
                time.sleep(_PAUSE_SECONDS)

    def _relay(self, client: socket.socket) -> None:
        with self._lock:
            self._connections += 1
        sent = 0
        with client, contextlib.suppress(OSError), self._connected() as worker:
            back = threading.Thread(target=_copy, args=(worker, client), daemon=True)
            back.start()
            sent = _copy(client, worker)
            back.join()
        with self._lock:
            self._connections -= 1
        if self._renews and sent:
            self._events.put(None)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        """Waits until the worker listens, and connects to the worker.

        Raises:
          OSError: the worker does not listen within a minute.
        """
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                worker = socket.create_connection(("127.0.0.1", self._port or 0))
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        with worker:
            worker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield worker


def _copy(source: socket.socket, target: socket.socket) -> int:
    """Copies bytes until a socket's end, then closes both; returns how many."""
    piece, total = memoryview(bytearray(_PIECE)), 0
    with contextlib.suppress(OSError):
        while count := source.recv_into(piece):
            target.sendall(piece[:count])
            total += count
    # gRPC closes no connection by half.
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    return total


def _in_background(function: Any) -> None:
    threading.Thread(target=function, daemon=True).start()


def _unused_port() -> int:
    with socket.create_server(("", 0)) as found:
        return int(found.getsockname()[1])


def keep(
    binary: str,
    listen: str,
    say: Callable[..., None],
    *,
    parent: Optional[int] = None,
    renews: bool = False,
    isolated: bool = True,
    goodbye: str = "",
) -> int:
    """Runs a worker until its end, or until SIGINT or SIGTERM.

    Args:
      binary: path of TFF's worker.
      listen: see `Door`.
      say: called with `address` and `pid` when the worker is started, or with `error`.
      parent: id of a process with which this process ends, or None.
      renews: see `Keeper`.
      isolated: whether the worker gets its own network. Otherwise it listens on all
        interfaces of this machine.
      goodbye: written to standard error after a signal.

    Returns:
      The exit code.
    """
    ends = (signal.SIGINT, signal.SIGTERM)
    # Signals wait until the door can be closed.
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        try:
            door = Door(listen)
        except OSError as error:
            say(error=os.strerror(error.errno or 0))
            return NOT_LISTENING
        keeper = Keeper(binary, door, renews=renews, isolated=isolated)

        def stop(number: int, _: Any) -> None:
            keeper.end()
            door.close()
            sys.stderr.write(goodbye)
            sys.stderr.flush()
            os._exit(128 + number)

        for number in ends:
            signal.signal(number, stop)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)
    try:
        if isolated:
            try:
                network.isolate()
            except OSError as error:
                say(error=os.strerror(error.errno or 0))
                return NOT_ISOLATED
        if parent is not None:
            network.end_with_parent(parent, signal.SIGTERM)
        keeper.start()
        say(address=door.address, pid=keeper.pid)
        code = keeper.serve()
    finally:
        door.close()
    return code if code >= 0 else 128 - code


def main(arguments: Sequence[str] = tuple(sys.argv[1:])) -> int:
    """Runs `keep` with arguments from JSON; prints its messages as lines of JSON."""
    given = json.loads(arguments[0])
    return keep(given.pop("binary"), given.pop("listen"), _say, **given)


def _say(**content: Any) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
