"""ε of rounds under unlike neighbouring relations."""

from __future__ import annotations

from collections.abc import Sequence

from tfl_research.privacy.accounting.composition import composed_epsilon
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.relations import Total


def composed_total(
    events: Sequence[tuple[Event, int]], delta: float, accountant: str | None = None
) -> Total:
    """`composed_epsilon` with the relation that ε is for."""
    relations = [event.neighbouring_relation for event, rounds in events if rounds]
    epsilon = composed_epsilon(events, delta, accountant)
    return Total(epsilon, relations[0] if relations else None)
