"""Sends requests to sites, and has sites that forgot the run begin it again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Optional, Protocol, Union

from tfl_research.errors import UserError
from tfl_research.federation.wire.messages import Message


class Refusal(Protocol):
    """A site's answer that it refuses the request."""

    @property
    def site(self) -> str: ...

    @property
    def reason(self) -> str: ...

    @property
    def kind(self) -> str: ...


class Asks(Protocol):
    """Sends requests to sites; see `exchange.Exchange`."""

    def ask(
        self, requests: Mapping[str, Message], seconds: float
    ) -> Iterator[tuple[str, Union[Message, Refusal]]]:
        """Sends a request to each site; yields the answers as they come."""
        ...


class Asking:
    """Asks the sites of one run, until all or some of them have answered.

    Args:
      exchange: sends the requests.
      start_deadline: seconds that a site has to read its data or to build the process.
      say: prints a line for the user.
    """

    def __init__(
        self, exchange: Asks, start_deadline: float, say: Callable[[str], None]
    ):
        self._exchange = exchange
        self._start_deadline = start_deadline
        self._say = say
        self._begun: dict[str, Message] = {}

    def begin(self, requests: dict[str, Message]) -> None:
        """Has sites begin the run, now and whenever they have forgotten it.

        Raises:
          UserError: a site refuses, or does not answer in time.
        """
        self._begun = requests
        self.all(requests)

    def tell(self, message: Message, seconds: float) -> None:
        """Sends a message to the sites that began the run; ignores their answers."""
        for _ in self._exchange.ask(dict.fromkeys(self._begun, message), seconds):
            pass

    def in_time(
        self, requests: Mapping[str, Message], seconds: float
    ) -> Iterator[tuple[str, Message]]:
        """Yields the answers that come in time; prints refusals and leaves them out.

        A site that was started again since the run began no longer has the process. It
        gets the request to begin again, and then the same request, within the remaining
        time. A site that needs longer is ready in a later round.
        """
        end = time.monotonic() + seconds
        forgotten: dict[str, Message] = {}
        for site, answer in self._exchange.ask(requests, seconds):
            if not isinstance(answer, Message):
                self._say(_told(site, answer))
            elif answer.header.get("forgotten"):
                forgotten[site] = requests[site]
            else:
                yield site, answer
        again: dict[str, Message] = {}
        for site, request in forgotten.items():
            try:
                self.all({site: self._begun[site]}, _left(end))
            except UserError as error:
                self._say(error.for_command_line)
                continue
            again[site] = request
        if again:
            for site, answer in self._exchange.ask(again, _left(end)):
                if isinstance(answer, Message):
                    yield site, answer
                else:
                    self._say(_told(site, answer))

    def all(
        self, requests: Mapping[str, Message], seconds: Optional[float] = None
    ) -> dict[str, Message]:
        """Returns the answers of all asked sites, in the order of the requests.

        Args:
          requests: the requests by site.
          seconds: how long to wait; by default the start's deadline.

        Raises:
          UserError: a site refuses, or does not answer in time.
        """
        if seconds is None:
            seconds = self._start_deadline
        found = dict(self._answered(requests, seconds))
        missing = [site for site in requests if site not in found]
        if missing:
            raise UserError(
                f"site {', '.join(missing)}: no answer within {seconds:g} s; start it "
                "with scripts/site --config=site.toml, then give the same command "
                "again"
            )
        return {site: found[site] for site in requests}

    def _answered(
        self,
        requests: Mapping[str, Message],
        seconds: float,
        again: Sequence[str] = (),
    ) -> Iterator[tuple[str, Message]]:
        """Yields the answers as they come; see `all`.

        Args:
          requests: the requests by site.
          seconds: how long to wait.
          again: sites that have just begun the run again.

        Raises:
          UserError: a site refuses, or forgets the run at once.
        """
        for site, answer in self._exchange.ask(requests, seconds):
            if not isinstance(answer, Message):
                fix = ""
                if answer.kind == "unreached":
                    fix = "; start it with scripts/site --config=site.toml"
                raise UserError(f"{_told(site, answer)}{fix}")
            if answer.header.get("forgotten"):
                request = self._begun.get(site)
                if request is None or requests[site] is request:
                    raise UserError(
                        f"site {site}: has forgotten the run; give the same command "
                        "again"
                    )
                if site in again:
                    raise UserError(
                        f"site {site}: has forgotten the run again, right after it "
                        "began; a site keeps the latest runs only, so let other runs "
                        "end, then give the same command again"
                    )
                self.all({site: request})
                repeated = {site: requests[site]}
                yield from self._answered(repeated, seconds, again=(site,))
            else:
                yield site, answer


def _left(end: float) -> float:
    """Seconds until `end`; at least one, so that a site that is ready can answer."""
    return max(1.0, end - time.monotonic())


def _told(site: str, refusal: Refusal) -> str:
    """Says in a line why a site has no answer."""
    verb = {"refused": " refuses", "failed": " failed"}.get(refusal.kind, "")
    return f"site {site}{verb}: {refusal.reason}"
