"""The coordinator's side: sends requests to sites, and accepts only their answers."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Optional, Union

from tfl_research.errors import UserError
from tfl_research.federation.wire import authentication
from tfl_research.federation.wire.authentication import (
    AuthenticationError,
    Seal,
    check_name,
)
from tfl_research.federation.wire.carriers import Carrier
from tfl_research.federation.wire.handler import FAILED, REFUSED
from tfl_research.federation.wire.messages import (
    LIMIT_BYTES,
    Message,
    MessageError,
    decode,
    encode,
)
from tfl_research.storage.files import atomic

# Kinds of refusals, in addition to the replies' `REFUSED` and `FAILED`.
WRONG = "wrong"
SILENT = "silent"
UNREACHED = "unreached"
# How often a request is sent if the reply was not sealed by the site.
_TRIES = 3
# How many numbers are reserved on disk at once.
_BLOCK = 1000


@dataclasses.dataclass(frozen=True)
class Refusal:
    """The reason why a site has no answer.

    Attributes:
      site: the site's name.
      reason: the reason in a line.
      kind: "refused" (by the site), "failed" (at the site), "wrong" (a reply that does
        not fit), "silent" (until the time was over), or "unreached".
    """

    site: str
    reason: str
    kind: str


Answer = Union[Message, Refusal]


@dataclasses.dataclass(frozen=True)
class _Asked:
    """A request that was sent."""

    message: Message
    content: bytes
    sequence: int


class Exchange:
    """Asks the sites of one run.

    Every request gets a larger number than all earlier requests, even if the
    coordinator was killed. The next number is in a file, "NEXT\\n" in decimal. A
    question before a run needs no file, since its id is used by one process only.

    Attributes:
      carrier: takes the requests to the sites.
      run: the run's id.

    Example:
      >>> import pathlib
      >>> from tfl_research.federation.wire.carriers import LocalCarrier
      >>> from tfl_research.federation.wire.exchange import Exchange
      >>> from tfl_research.federation.wire.messages import Message
      >>> sockets = {"nord": pathlib.Path("nord/site.sock")}
      >>> carrier = LocalCarrier(sockets, patience=0.1)
      >>> numbers = pathlib.Path("sequence")
      >>> exchange = Exchange(carrier, {"nord": bytes(32)}, "run1", numbers)
      >>> asked = {"nord": Message("hello", {"round": 0, "completed": 0})}
      >>> dict(exchange.ask(asked, seconds=5.0))
      {'nord': Refusal(site='nord', reason='cannot be reached', kind='unreached')}
    """

    def __init__(
        self,
        carrier: Carrier,
        keys: Mapping[str, bytes],
        run: str,
        sequence_path: Optional[pathlib.Path],
        say: Callable[[str], None] = print,
        *,
        limit_bytes: int = LIMIT_BYTES,
    ):
        """Keeps the arguments; sends nothing yet.

        Args:
          carrier: takes the requests to the sites.
          keys: the key of each site.
          run: the run's id.
          sequence_path: the file of the next number, in the run's folder; None for an
            id that no other process uses.
          say: prints a line about bytes that do not fit.
          limit_bytes: the length of the longest accepted reply.

        Raises:
          UserError: a name does not fit, or the file is damaged.
        """
        self.carrier = carrier
        self.run = check_name(run, "the run's id")
        self._keys = {check_name(s, "a site's name"): key for s, key in keys.items()}
        self._path = sequence_path
        self._say = say
        self._limit = limit_bytes
        self._next = self._reserved = (
            0 if sequence_path is None else _reserved(sequence_path)
        )

    def ask(
        self,
        requests: Mapping[str, Message],
        seconds: float,
        check: Optional[Callable[[str, Message], None]] = None,
    ) -> Iterator[tuple[str, Answer]]:
        """Asks sites and yields their answers as they come, one for each site.

        A caller that has enough answers closes the iterator. Later answers are
        dropped.

        Args:
          requests: the message for each site. The header has the whole numbers round
            and completed, the last round that the coordinator completed; run is added.
          seconds: how long to wait.
          check: looks at a reply of the right run, round and kind; raises MessageError
            if the reply does not fit, such as a tensor of a wrong shape.

        Yields:
          The site and its reply, or a `Refusal`.

        Raises:
          ValueError: a site has no key, or a request does not fit.
        """
        end = time.monotonic() + seconds
        waiting = {site: self._asked(site, m) for site, m in requests.items()}
        for _ in range(_TRIES):
            contents = {site: asked.content for site, asked in waiting.items()}
            wrong = {}
            replies = self.carrier.exchange(contents, end - time.monotonic())
            for site, content in replies:
                if site not in waiting:
                    self._say(
                        f"site {site[:64]!r} answers twice, or without a request: "
                        "dropped"
                    )
                    continue
                try:
                    answer = self._answer(site, waiting[site], content, check)
                except UserError as error:
                    self._say(f"dropped a message from site {site}: {error}")
                    wrong[site] = Refusal(site, str(error), WRONG)
                    continue
                del waiting[site]
                yield site, answer
            if not wrong or time.monotonic() >= end:
                break
        for site in list(waiting):
            silent = Refusal(site, f"no answer within {seconds:g} s", SILENT)
            yield site, wrong.get(site, silent)

    def _asked(self, site: str, message: Message) -> _Asked:
        if site not in self._keys:
            raise ValueError(
                f"site {site!r} has no key; the sites with keys are "
                f"{', '.join(self._keys)}"
            )
        message.integer("round")
        message.integer("completed")
        header = {**message.header, "run": self.run}
        body = encode(Message(message.kind, header, message.tensors))
        sequence = self._sequence()
        seal = Seal(False, site, self.run, sequence)
        content = authentication.sealed(body, self._keys[site], seal)
        return _Asked(message, content, sequence)

    def _sequence(self) -> int:
        if self._next == self._reserved:
            self._reserved += _BLOCK
            if self._path is not None:
                atomic.write(self._path, b"%d\n" % self._reserved, mode=0o600)
        self._next += 1
        return self._next

    def _answer(
        self,
        site: str,
        asked: _Asked,
        content: bytes,
        check: Optional[Callable[[str, Message], None]],
    ) -> Answer:
        """The answer in these bytes.

        Raises:
          UserError: the site did not send the bytes as the answer to this request.
        """
        if not content:
            return Refusal(site, "cannot be reached", UNREACHED)
        text = authentication.why_no_reply(content)
        if text is not None:
            raise AuthenticationError(f"the reply has no seal: {text!r}")
        seal, body = authentication.opened(content, self._keys[site])
        mac = authentication.mac_of(asked.content)
        expected = Seal(True, site, self.run, asked.sequence, mac)
        if seal != expected:
            raise AuthenticationError(
                f"this is not the reply to request {asked.sequence} of the run "
                f"{self.run} to {site}, but "
                f"{'a reply' if seal.is_reply else 'a request'} {seal.sequence} of "
                f"the run {seal.run[:64]!r}, site {seal.site[:64]!r}"
            )
        try:
            reply = decode(body, self._limit)
            refusal = self._refusal(site, asked.message, reply)
            if refusal is None and check is not None:
                check(site, reply)
        except MessageError as error:
            refusal = Refusal(site, str(error), WRONG)
        if refusal is None:
            return reply
        self._say(
            f"site {site}, {asked.message.kind} of round "
            f"{asked.message.integer('round')}: {refusal.kind}: {refusal.reason}"
        )
        return refusal

    def _refusal(self, site: str, asked: Message, reply: Message) -> Optional[Refusal]:
        """The refusal that the reply is, if any."""
        round_number = asked.integer("round")
        if reply.text("run") != self.run:
            raise MessageError(f"the reply is of the run {reply.text('run')[:64]!r}")
        if reply.kind in (REFUSED, FAILED):
            return Refusal(site, reply.text("reason"), reply.kind)
        if reply.integer("round") != round_number:
            raise MessageError(
                f"the reply is for round {reply.integer('round')}, but round "
                f"{round_number} was asked for"
            )
        if reply.kind != asked.kind:
            raise MessageError(
                f"the reply is of the kind {reply.kind!r}, but {asked.kind!r} was "
                "asked for"
            )
        return None


def _reserved(path: pathlib.Path) -> int:
    """The number up to which numbers may have been used."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror}); make the file readable, or "
            "restore it"
        ) from error
    if not re.fullmatch(r"[0-9]{1,18}\n", text):
        raise UserError(
            f"{path} is damaged: expected a number, got {text[:40]!r}; restore the "
            "file, or start a new run"
        )
    return int(text)
