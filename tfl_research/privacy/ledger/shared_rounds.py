"""The rounds in a shared ledger, by run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.ledger import identity, ledger
from tfl_research.privacy.ledger.hash_chain import HashChain
from tfl_research.privacy.ledger.identity import Population

# Rounds by run and event.
Counts = dict[tuple[str, Event], int]
_FIELDS = {"event", "run", "population", "round"}


@dataclasses.dataclass(frozen=True)
class RunSpent:
    """The rounds of one run in a ledger.

    Attributes:
      run: its id; in a run's own ledger, the name of the run's folder.
      events: the event of round 1, round 2, ...
    """

    run: str
    events: tuple[Event, ...]

    @property
    def groups(self) -> list[tuple[Event, int]]:
        """Each event with its number of rounds, in the order of first rounds."""
        counts: dict[Event, int] = {}
        for event in self.events:
            counts[event] = counts.get(event, 0) + 1
        return list(counts.items())


class SharedRounds:
    """The rounds in the lines of a shared ledger that were read so far.

    Attributes:
      runs: by run, the event of its round 1, round 2, ...
      counts: rounds by run and event.
      population: the clients that all lines are about; None without lines.
    """

    def __init__(self, chain: HashChain) -> None:
        self._chain = chain
        self._parsed: dict[str, Event] = {}
        self.runs: dict[str, list[Event]] = {}
        # Kept beside `runs`: counting anew would visit every line.
        self.counts: Counts = {}
        self.population: Population | None = None

    def read(self, *, repair: bool) -> None:
        """Reads the lines added since the last call; see `HashChain.read`."""
        start = len(self._chain) + 1
        for number, fields in enumerate(self._chain.read(repair=repair), start=start):
            self._add_line(f"{self._chain.path}, line {number}", fields)

    def _add_line(self, where: str, fields: Mapping[str, Any]) -> None:
        text = json.dumps(fields.get("event"), sort_keys=True)
        event = self._parsed.get(text)
        if event is None or set(fields) - {"plugin"} != _FIELDS:
            event = ledger.parse_event(where, fields, _FIELDS - {"event"})
            self._parsed[text] = event
        try:
            population = Population(**fields["population"])
        except TypeError as error:
            raise ValueError(f"{where}: not a ledger line ({error})") from error
        if not (
            identity.is_hex(fields["run"], identity.RUN_DIGITS)
            and identity.is_hex(population.fingerprint, 64)
            and isinstance(population.clients, int)
        ):
            raise ValueError(f"{where}: not a ledger line (run or population)")
        if self.population not in (None, population):
            raise ValueError(f"{where}: is about another population than line 1")
        due = len(self.runs.get(fields["run"], [])) + 1
        if fields["round"] != due:
            raise ValueError(
                f"{where}: is round {fields['round']} of run {fields['run']}, not its "
                f"round {due}"
            )
        self.add(fields["run"], population, event)

    def add(self, run: str, population: Population, event: Event) -> None:
        """Adds the next round of a run."""
        self.population = population
        self.runs.setdefault(run, []).append(event)
        self.counts[run, event] = self.counts.get((run, event), 0) + 1
