"""Converts a run's lines to the lines of one client, and back.

A line of the run's own ledger has the event at all clients. A line of a client's ledger
has the event at this client.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.events.record_event import RecordEvent
from tfl_research.privacy.ledger.lines.entries import Entry, Restart


class ClientLines:
    """Converts lines between the ledger of a run and the ledgers of its clients.

    Args:
      path: the folder of the clients' ledgers, for messages.
      event: the event of each round of the run, at all clients.

    Attributes:
      indices: the positions in the event of the clients that have records, by name.
    """

    def __init__(self, path: pathlib.Path, event: RecordEvent) -> None:
        self._path, self._event = path, event
        self.indices = {
            name: index for index, (name, n) in enumerate(event.clients) if n > 0
        }

    def event_at(self, event: Event, client: str) -> Event:
        """Returns what an event at all clients is at one client.

        Raises:
          ValueError: the event's unit of privacy is not a record.
        """
        if event.unit != "record":
            raise ValueError(
                f"{self._path} is of records, but a round of {event} is of "
                f"{event.unit}s; give another ledger"
            )
        if not isinstance(event, RecordEvent):
            return event
        return event.of_client(self.indices[client])

    def entry_at(self, entry: Entry, client: str) -> Entry:
        """Converts an entry of the run's own ledger to a client's."""
        if isinstance(entry, Restart):
            return entry
        return dataclasses.replace(entry, event=self.event_at(entry.event, client))

    def of_run(self, entries: Sequence[Entry]) -> list[Entry]:
        """Converts entries of a client's ledger to those of the run's own ledger."""
        return [
            dataclasses.replace(entry, event=self._of_all(entry.event))
            if not isinstance(entry, Restart) and isinstance(entry.event, RecordEvent)
            else entry
            for entry in entries
        ]

    def _of_all(self, event: RecordEvent) -> RecordEvent:
        return dataclasses.replace(event, clients=self._event.clients)
