"""A network between a driver and its workers: counts bytes, delays and slows them.

A program of its own, so that it takes no time from the driver:

    python -m benchmark.slow_network 127.0.0.1:8001 127.0.0.1:8002

It prints a line of JSON with the address at which each worker is reached through it.
It then reads lines of JSON, `{"latency": SECONDS, "bandwidth": BYTES_A_SECOND}` (null
for no limit), and answers each with the bytes that went to and from each worker since
the line before.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import sys
import threading
import time
from typing import Any, Optional

_PIECE = 1 << 16


class Link:
    """One direction of the driver's connection to the network, which workers share."""

    def __init__(self) -> None:
        self.latency = 0.0
        self.bandwidth: Optional[float] = None
        self._free = 0.0
        self._lock = threading.Lock()

    def arrival(self, size: int) -> float:
        """When bytes that are sent now arrive, by `time.monotonic`."""
        with self._lock:
            now = time.monotonic()
            if self.bandwidth is None:
                return now + self.latency
            self._free = max(now, self._free) + size / self.bandwidth
            return self._free + self.latency


class Relay:
    """Relays a port to a worker's address.

    Attributes:
      address: where the worker is reached.
      counts: bytes to the worker and from the worker.
    """

    def __init__(self, target: str, to: Link, back: Link):
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._links = to, back
        self.counts = [0, 0]
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            driver, _ = self._server.accept()
            worker = socket.create_connection(self._target)
            for way, (source, target) in enumerate(
                ((driver, worker), (worker, driver))
            ):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                on_way: Any = queue.SimpleQueue()
                for work in (self._take, self._give):
                    arguments = (way, source if work == self._take else target, on_way)
                    threading.Thread(target=work, args=arguments, daemon=True).start()

    def _take(self, way: int, source: socket.socket, on_way: Any) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(_PIECE):
                self.counts[way] += len(piece)
                on_way.put((self._links[way].arrival(len(piece)), piece))
        on_way.put((0.0, b""))

    def _give(self, way: int, target: socket.socket, on_way: Any) -> None:
        del way
        with contextlib.suppress(OSError):
            while True:
                arrival, piece = on_way.get()
                if not piece:
                    target.shutdown(socket.SHUT_RDWR)
                    return
                wait = arrival - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                target.sendall(piece)


def main(targets: list[str]) -> None:
    links = Link(), Link()
    relays = [Relay(target, *links) for target in targets]
    print(json.dumps([relay.address for relay in relays]), flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        for link in links:
            link.latency = wanted["latency"]
            link.bandwidth = wanted["bandwidth"]
        counts = [relay.counts[:] for relay in relays]
        for relay in relays:
            relay.counts[:] = [0, 0]
        print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
