"""Lists what a run is charged, as groups of equal events, for composing ε."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.ledger.ledger import Ledger


class RunCharges:
    """What a ledger charges a run, and what the run still plans.

    A new round of the present attempt costs O(1).

    Args:
      ledger: the run's ledger, open.
      event: the event of rounds that the ledger does not have yet.
      planned_releases: pairs (event, number of releases).
    """

    def __init__(
        self,
        ledger: Ledger,
        event: Event,
        planned_releases: Sequence[tuple[Event, int]],
    ) -> None:
        self._ledger, self._event = ledger, event
        self._planned_releases = tuple(planned_releases)
        # Consecutive rounds with equal events.
        self._groups: list[tuple[Event, int]] = []
        self._grouped = 0

    @property
    def events(self) -> list[Event]:
        """The event of the run's rounds, those of planned releases, and all charged."""
        planned = [event for event, _ in self._planned_releases]
        charged = [event for _, event in self._ledger.record_of_run.counts]
        return [self._event, *planned, *charged]

    def rounds(self, rounds: int) -> list[tuple[Event, int]]:
        """Returns the first rounds as pairs (event, number of rounds in a row).

        Args:
          rounds: number of rounds, at least 0.
        """
        self._read()
        left, groups = rounds, []
        for recorded, count in self._groups:
            if left > 0:
                groups.append((recorded, min(count, left)))
            left -= count
        if left > 0:
            groups.append((self._event, left))
        return _joined(groups)

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

    def beside(self, rounds: int) -> tuple[tuple[Event, int], ...]:
        """Returns the charges in addition to the rounds; see `RunRecord.beside`."""
        return self._ledger.record_of_run.beside(rounds)

    def all(self, rounds: int) -> list[tuple[Event, int]]:
        """Returns the rounds in their order, then the charges in addition to them."""
        return _joined([*self.rounds(rounds), *self.beside(rounds)])

    def releases_left(self) -> list[tuple[Event, int]]:
        """Returns the planned releases that the present attempt has not made."""
        made = self._ledger.record_of_run.present_releases
        left = [(e, count - made.count(e)) for e, count in self._planned_releases]
        return [(event, count) for event, count in left if count > 0]


def _joined(groups: Iterable[tuple[Event, int]]) -> list[tuple[Event, int]]:
    """Merges neighbouring groups with equal events."""
    found: list[tuple[Event, int]] = []
    for event, count in groups:
        if found and found[-1][0] == event:
            found[-1] = event, found[-1][1] + count
        else:
            found.append((event, count))
    return found
