"""The interface to the work of a site, and a site's refusal."""

from __future__ import annotations

from typing import Protocol

from tfl_research.errors import UserError
from tfl_research.federation.wire.messages import Message

# Replies of these kinds have the reason in the field "reason".
REFUSED = "refused"
FAILED = "failed"


class Refused(UserError):
    """The site refuses the request; both sides print the reason."""


class Handler(Protocol):
    """Protocol of an object that answers a coordinator's requests at a site."""

    def handle(self, request: Message) -> Message:
        """Returns the reply, of the request's kind.

        The server adds the header's fields "run" and "round". The same request can come
        twice if the site was killed before its reply was kept. The handler must then
        give the same reply again, without a second charge.

        Args:
          request: the request. Its header has run, round and completed, the last round
            that the coordinator completed.

        Raises:
          Refused: the site refuses the request; the reason is sent.
          MessageError: the request does not fit; the reason is sent.
          Exception: any other error. The reason stays at the site, since it may quote
            data; the coordinator gets only the exception's class.
        """
        ...
