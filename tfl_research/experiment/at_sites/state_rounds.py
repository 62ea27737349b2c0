"""Reads from a request after which round each client's state counts."""

from __future__ import annotations

from collections.abc import Sequence

from tfl_research.federation.wire.messages import Message, MessageError


def state_rounds_of(request: Message, client_ids: Sequence[str]) -> dict[str, int]:
    """Reads the last round whose state counts, by client; 0 for no round.

    Raises:
      MessageError: a client has no round, or a value is no round number.
    """
    given = request.mapping("state_rounds")
    for client_id in client_ids:
        number = given.get(client_id)
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise MessageError(
                f"client {client_id!r}: expected the number of the last round whose "
                f"state counts, got {str(number)[:40]!r}"
            )
    return {client_id: given[client_id] for client_id in client_ids}
