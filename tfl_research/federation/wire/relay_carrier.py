"""The coordinator's end of a relay: a small process in another engine's environment.

A relay connects to the coordinator's socket. The relay says which sites it reaches, in
a frame `sites\\n` with their names, one a line. It may send the frame again when
they change. Then frames go both ways (numbers are big-endian):

    2 bytes   length of the site's name, then the name in UTF-8
    8 bytes   the request's number, which the reply repeats
    the rest  the message; empty in a reply if the site cannot be reached
"""

from __future__ import annotations

import dataclasses
import pathlib
import secrets
import selectors
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Optional

from tfl_research.errors import UserError
from tfl_research.federation.wire.authentication import check_name
from tfl_research.federation.wire.carriers import LONGEST_WAIT, PATIENCE, PAUSE
from tfl_research.federation.wire.messages import LIMIT_BYTES
from tfl_research.federation.wire.sockets import Connection, FrameError, Listener

ANNOUNCEMENT = b"sites\n"
_LENGTH = struct.Struct(">H")
_NUMBER = struct.Struct(">Q")
# The largest number of bytes in a frame before the message.
_FRONT_BYTES = _LENGTH.size + 2**16 + _NUMBER.size


def relayed(site: str, number: int, message: bytes) -> bytes:
    """The payload of a relay's frame."""
    name = site.encode()
    return b"".join([_LENGTH.pack(len(name)), name, _NUMBER.pack(number), message])


def unrelayed(payload: bytes) -> tuple[str, int, bytes]:
    """Site, number and message of a relay's frame.

    Raises:
      FrameError: the payload does not have this form.
    """
    try:
        (length,) = _LENGTH.unpack_from(payload)
        start = _LENGTH.size + length
        (number,) = _NUMBER.unpack_from(payload, start)
        name = payload[_LENGTH.size : start].decode()
    except (struct.error, UnicodeDecodeError) as error:
        raise FrameError(f"a frame of {len(payload)} bytes is not a reply") from error
    return name, number, payload[start + _NUMBER.size :]


@dataclasses.dataclass
class _Request:
    """A request to a site, until its reply comes."""

    content: bytes
    next_try: float
    give_up: float
    number: int = 0
    # Whether a relay has said that it cannot reach the site.
    is_unreached: bool = False
    # The relay that carries it; None if it has to be sent.
    relay: Optional[Connection] = None


class RelayCarrier:
    """Reaches sites by relays that connect to a socket; a `Carrier`.

    A relay that ends may come back, and another one may take over its sites: requests
    without a reply are sent again.
    """

    def __init__(
        self,
        path: pathlib.Path,
        say: Callable[[str], None] = print,
        *,
        limit_bytes: int = LIMIT_BYTES,
        patience: float = PATIENCE,
    ):
        """Listens for relays.

        Args:
          path: the path of the coordinator's socket, in a folder that only this user
            can enter.
          say: prints a line about a relay, or about bytes that do not fit.
          limit_bytes: the length of the longest accepted reply.
          patience: how many seconds a site that no relay reaches is tried again.

        Raises:
          UserError: another process listens there, or the folder does not fit.
        """
        self._say = say
        self._patience = patience
        self._listener = Listener(path, limit_bytes + _FRONT_BYTES)
        self._relays: dict[str, Connection] = {}
        self._number = secrets.randbits(62)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener.socket, selectors.EVENT_READ)

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites that relays have announced, see `Carrier`."""
        for site, number, _ in self._step(0.0):
            self._drop_late(site, number)
        return tuple(sorted(self._relays))

    def exchange(
        self, requests: Mapping[str, bytes], seconds: float
    ) -> Iterator[tuple[str, bytes]]:
        """Sends requests and yields the replies as they come, see `Carrier`."""
        now = time.monotonic()
        end = now + seconds
        waiting = {
            site: _Request(content, now, now + self._patience)
            for site, content in requests.items()
        }
        while waiting and now < end:
            for site in list(waiting):
                if not self._sends(site, waiting[site], now):
                    del waiting[site]
                    yield site, b""
            if not waiting:
                return
            tries = [r.next_try for r in waiting.values() if r.relay is None]
            until = min([end, *tries]) - time.monotonic()
            replies = self._step(min(max(0.0, until), LONGEST_WAIT))
            now = time.monotonic()
            for site, number, message in replies:
                request = waiting.get(site)
                if request is None or request.number != number:
                    self._drop_late(site, number)
                elif message:
                    del waiting[site]
                    yield site, message
                else:
                    request.relay, request.next_try = None, now + PAUSE
                    if not request.is_unreached:
                        request.is_unreached = True
                        request.give_up = now + self._patience
        for site, request in waiting.items():
            if request.relay is None:
                yield site, b""

    def _sends(self, site: str, request: _Request, now: float) -> bool:
        """Sends a request if it is time; returns False if the site is out of reach."""
        relay = self._relays.get(site)
        if request.relay is not None:
            if request.relay is relay:
                return True
            # The relay ended, or another relay has taken over the site.
            request.relay, request.give_up = None, now + self._patience
        if now < request.next_try:
            return True
        if now >= request.give_up:
            return False
        if relay is None:
            request.next_try = now + PAUSE
            return True
        self._number += 1
        request.number, request.relay = self._number, relay
        relay.put(relayed(site, request.number, request.content))
        self._wait_for(relay)
        return True

    def _drop_late(self, site: str, number: int) -> None:
        self._say(
            f"a reply of site {site[:64]!r} to request {number} came late or twice: "
            "dropped"
        )

    def _step(self, seconds: float) -> list[tuple[str, int, bytes]]:
        """Sends and receives for a time; returns the replies that came."""
        replies = []
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                self._accept()
                continue
            relay: Connection = key.data
            try:
                relay.flush()
                for payload in relay.frames():
                    if payload.startswith(ANNOUNCEMENT):
                        self._announced(relay, payload)
                    else:
                        replies.append(unrelayed(payload))
                self._wait_for(relay)
            except UserError as error:
                self._say(f"dropped a relay: {error}")
                self._lost(relay)
            except (OSError, EOFError):
                self._lost(relay)
        return replies

    def _accept(self) -> None:
        try:
            relay = self._listener.accept()
        except FrameError as error:
            self._say(str(error))
            return
        if relay is not None:
            self._selector.register(relay.socket, selectors.EVENT_READ, relay)

    def _announced(self, relay: Connection, payload: bytes) -> None:
        names = payload[len(ANNOUNCEMENT) :].decode(errors="replace").splitlines()
        sites = {check_name(name, "the name of a site") for name in names}
        others = {s: one for s, one in self._relays.items() if one is not relay}
        self._relays = {**others, **dict.fromkeys(sites, relay)}
        self._say(f"a relay reaches the sites {', '.join(sorted(sites)) or 'none'}")

    def _wait_for(self, relay: Connection) -> None:
        events = selectors.EVENT_WRITE if relay.sends else 0
        self._selector.modify(relay.socket, selectors.EVENT_READ | events, relay)

    def _lost(self, relay: Connection) -> None:
        self._selector.unregister(relay.socket)
        relay.close()
        gone = sorted(site for site, one in self._relays.items() if one is relay)
        if gone:
            self._say(f"the relay of the sites {', '.join(gone)} is gone")
        self._relays = {s: one for s, one in self._relays.items() if one is not relay}

    def close(self) -> None:
        """Closes the relays' connections and the socket."""
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                key.data.close()
        self._selector.close()
        self._listener.close()
