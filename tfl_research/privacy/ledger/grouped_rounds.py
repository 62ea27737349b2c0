"""Groups the rounds of a ledger by equal events."""

from __future__ import annotations

from collections.abc import Iterable

from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.ledger.ledger import Ledger


class GroupedRounds:
    """Groups the rounds of a run's present attempt; a new round costs O(1)."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        # Consecutive rounds with equal events.
        self._groups: list[tuple[Event, int]] = []
        self._grouped = 0

    def first(self, rounds: int, event: Event) -> list[tuple[Event, int]]:
        """Returns the first rounds as pairs (event, number of rounds in a row).

        Args:
          rounds: number of rounds, at least 0.
          event: the event of rounds that the ledger does not have yet.
        """
        self._read()
        left, groups = rounds, []
        for recorded, count in self._groups:
            if left > 0:
                groups.append((recorded, min(count, left)))
            left -= count
        if left > 0:
            groups.append((event, left))
        return joined(groups)

    def _read(self) -> None:
        if self._grouped > len(self._ledger):
            # A restart has taken rounds back, so the groups start again.
            self._groups, self._grouped = [], 0
        while self._grouped < len(self._ledger):
            event = self._ledger[self._grouped]
            if self._groups and self._groups[-1][0] == event:
                self._groups[-1] = event, self._groups[-1][1] + 1
            else:
                self._groups.append((event, 1))
            self._grouped += 1


def joined(groups: Iterable[tuple[Event, int]]) -> list[tuple[Event, int]]:
    """Merges neighbouring groups with equal events."""
    found: list[tuple[Event, int]] = []
    for event, count in groups:
        if found and found[-1][0] == event:
            found[-1] = event, found[-1][1] + count
        else:
            found.append((event, count))
    return found
