"""Carriers, which take requests to sites and bring the replies back."""

from __future__ import annotations

import dataclasses
import pathlib
import selectors
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Optional, Protocol

from tfl_research.federation.wire import authentication
from tfl_research.federation.wire.messages import LIMIT_BYTES
from tfl_research.federation.wire.sockets import Connection, FrameError, connected

# Seconds for which an absent site is tried again, so that it can restart.
PATIENCE = 10.0
# Seconds between two tries to reach a site.
PAUSE = 0.1
# How often a request is sent to a site that closes the connection without a reply.
ATTEMPTS = 5
# The longest wait for the kernel, which takes no wait of more than 24 days.
LONGEST_WAIT = 86400.0


class Carrier(Protocol):
    """Carries bytes between the coordinator and its sites.

    A carrier may lose, alter, repeat, delay or forge bytes. Receivers check the seals.
    """

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites that can be reached now."""
        ...

    def exchange(
        self, requests: Mapping[str, bytes], seconds: float
    ) -> Iterator[tuple[str, bytes]]:
        """Sends requests and yields the replies as they come.

        A site that cannot be reached is tried again for a while. A site that closes the
        connection gets the same bytes again. Replies to earlier exchanges are dropped.
        The exchange ends when every site has replied or cannot be reached, when the
        time is over, or when the caller closes the iterator.

        Args:
          requests: the bytes by site.
          seconds: how long to wait for replies.

        Yields:
          A site and its reply; empty bytes for a site that cannot be reached; bytes of
          `authentication.no_reply` for a reply that cannot be carried.
        """
        ...

    def close(self) -> None:
        """Ends the carrier's connections."""
        ...


@dataclasses.dataclass
class _Request:
    """A request to a site, until its reply comes."""

    content: bytes
    # When the site is tried next, and when it counts as out of reach.
    next_try: float
    give_up: float
    attempts: int = 0
    # Whether the site's process listened when it was tried last.
    listens: bool = False
    connection: Optional[Connection] = None


class LocalCarrier:
    """Reaches site processes of this machine by their sockets; a `Carrier`.

    Each request has its own connection, so a late reply reaches nobody.

    Example:
      >>> import pathlib
      >>> from tfl_research.federation.wire import carriers
      >>> carrier = carriers.LocalCarrier({"nord": pathlib.Path("nord/site.sock")})
      >>> carrier.sites
      ()
    """

    def __init__(
        self,
        sockets: Mapping[str, pathlib.Path],
        say: Callable[[str], None] = print,
        *,
        limit_bytes: int = LIMIT_BYTES,
        patience: float = PATIENCE,
    ):
        """Takes the paths; connects to nobody yet.

        Args:
          sockets: the path of each site's socket.
          say: prints a line about bytes that do not fit.
          limit_bytes: the length of the longest accepted reply.
          patience: how many seconds a site without a process is tried again.
        """
        self._sockets = dict(sockets)
        self._say = say
        self._limit = limit_bytes
        self._patience = patience

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites whose process listens now, see `Carrier`."""
        return tuple(site for site in self._sockets if self._listens(site))

    def _listens(self, site: str) -> bool:
        try:
            self._connected(site).close()
        except BlockingIOError:
            return True
        except (OSError, FrameError):
            return False
        return True

    def _connected(self, site: str) -> Connection:
        return connected(self._sockets[site], f"site {site}", self._limit)

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
        with selectors.DefaultSelector() as selector:
            try:
                while waiting and now < end:
                    for site in list(waiting):
                        if not self._connects(site, waiting[site], selector, now):
                            del waiting[site]
                            yield site, b""
                    if not waiting:
                        return
                    tries = [r.next_try for r in waiting.values() if not r.connection]
                    until = min([end, *tries]) - time.monotonic()
                    wait = min(max(0.0, until), LONGEST_WAIT)
                    for key, _ in selector.select(wait):
                        reply = self._reply(key.data, waiting[key.data], selector)
                        if reply is not None:
                            del waiting[key.data]
                            yield key.data, reply
                    now = time.monotonic()
                for site, request in waiting.items():
                    if not request.listens:
                        yield site, b""
            finally:
                for request in waiting.values():
                    if request.connection is not None:
                        request.connection.close()

    def _connects(
        self,
        site: str,
        request: _Request,
        selector: selectors.BaseSelector,
        now: float,
    ) -> bool:
        """Connects if it is time; returns False if the site counts as out of reach."""
        if request.connection is not None or now < request.next_try:
            return True
        if request.attempts == ATTEMPTS:
            self._say(
                f"site {site} closed the connection {ATTEMPTS} times without a reply"
            )
            return False
        try:
            connection = self._connected(site)
        except FrameError as error:
            self._say(str(error))
            return False
        except BlockingIOError:
            # The site listens; other requests wait before this one.
            request.next_try, request.listens = now + PAUSE, True
            return True
        except OSError:
            request.next_try, request.listens = now + PAUSE, False
            return now < request.give_up
        request.attempts += 1
        request.listens = True
        request.connection = connection
        connection.put(request.content)
        selector.register(
            connection.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, site
        )
        return True

    def _reply(
        self, site: str, request: _Request, selector: selectors.BaseSelector
    ) -> Optional[bytes]:
        """Sends and receives ready bytes; returns the reply once it is complete."""
        connection = request.connection
        if connection is None:
            return None
        reply: Optional[bytes] = None
        try:
            connection.flush()
            reply = next(connection.frames(), None)
            if reply is None:
                events = selectors.EVENT_WRITE if connection.sends else 0
                selector.modify(connection.socket, selectors.EVENT_READ | events, site)
                return None
        except FrameError as error:
            reply = authentication.no_reply(str(error))
        except (OSError, EOFError):
            # The site's process ended, and gets the same bytes when it is back.
            now = time.monotonic()
            request.next_try, request.give_up = now + PAUSE, now + self._patience
            request.listens = False
        selector.unregister(connection.socket)
        connection.close()
        request.connection = None
        return reply

    def close(self) -> None:
        """Does nothing: connections last for one exchange."""
