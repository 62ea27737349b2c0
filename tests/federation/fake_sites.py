"""Sites in threads, with handlers that note what they were asked."""

from __future__ import annotations

import contextlib
import pathlib
import threading
from collections.abc import Callable

import numpy as np

from tfl_research.federation.site.site_server import SiteServer
from tfl_research.federation.wire.authentication import Seal, sealed
from tfl_research.federation.wire.carriers import LocalCarrier
from tfl_research.federation.wire.exchange import Exchange
from tfl_research.federation.wire.messages import Message, encode

RUN = "run1"


class Doubling:
    """Answers with twice the tensors; notes the requests."""

    def __init__(self) -> None:
        self.requests: list[Message] = []

    def handle(self, request: Message) -> Message:
        self.requests.append(request)
        return Message(
            request.kind, {"calls": len(self.requests)}, _doubled(request.tensors)
        )


def _doubled(tensors):
    return {name: 2 * tensor for name, tensor in tensors.items()}


class Sites(contextlib.ExitStack):
    """Site servers in threads, and what a coordinator needs to ask them."""

    def __init__(self, folder: pathlib.Path):
        super().__init__()
        self.folder = folder
        self.keys: dict[str, bytes] = {}
        self.lines: list[str] = []
        self.site_lines: dict[str, list[str]] = {}
        self._running: dict[str, tuple[SiteServer, threading.Thread]] = {}

    def start(self, site: str, handler=None, **options):
        """Starts a site; returns its handler."""
        self.keys.setdefault(site, site.encode().ljust(32, b"."))
        handler = handler or Doubling()
        server = SiteServer(
            self.socket(site),
            site,
            self.keys[site],
            self.folder / site,
            self.site_lines.setdefault(site, []).append,
            **options,
        )
        thread = threading.Thread(target=server.run, args=(handler,))
        thread.start()
        self._running[site] = server, thread
        self.callback(self.stop, site)
        return handler

    def stop(self, site: str) -> None:
        if site in self._running:
            server, thread = self._running.pop(site)
            server.stop()
            thread.join()
            server.close()

    def socket(self, site: str) -> pathlib.Path:
        return self.folder / site / "site.sock"

    def carrier(self, *others: str, **options) -> LocalCarrier:
        names = [*self.keys, *others]
        options.setdefault("patience", 0.3)
        paths = {name: self.socket(name) for name in names}
        return LocalCarrier(paths, self.lines.append, **options)

    def exchange(self, carrier=None, **options) -> Exchange:
        keys = {**self.keys, **options.pop("keys", {})}
        return Exchange(
            carrier or self.carrier(),
            keys,
            RUN,
            self.folder / "sequence",
            self.lines.append,
            **options,
        )


def asked(round_number: int = 1, kind: str = "round", size: int = 3) -> Message:
    return Message(
        kind,
        {"round": round_number, "completed": round_number - 1},
        {"x": np.arange(size, dtype=np.float32)},
    )


def request(name: str, key: bytes, sequence: int, **changes) -> bytes:
    """A sealed request, as a coordinator sends it."""
    header = {"run": RUN, "round": 1, "completed": 0}
    body = encode(Message("round", header, {"x": np.arange(3.0)}))
    seal = Seal(False, name, RUN, sequence)._replace(**changes)
    return sealed(body, key, seal)


class Altering:
    """A carrier whose replies go through a function first; None loses a reply."""

    def __init__(self, carrier, change: Callable[[str, bytes, int], object]):
        self._carrier = carrier
        self._change = change
        self.sent: list[dict[str, bytes]] = []

    @property
    def sites(self):
        return self._carrier.sites

    def exchange(self, requests, seconds):
        self.sent.append(dict(requests))
        for site, reply in self._carrier.exchange(requests, seconds):
            changed = self._change(site, reply, len(self.sent))
            for one in changed if isinstance(changed, list) else [changed]:
                if one is not None:
                    yield site, one

    def close(self):
        self._carrier.close()
