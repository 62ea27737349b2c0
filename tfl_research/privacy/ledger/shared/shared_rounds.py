"""Holds the lines of a shared ledger that were read so far, by run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.ledger import identity
from tfl_research.privacy.ledger.hash_chain import HashChain
from tfl_research.privacy.ledger.identity import Population
from tfl_research.privacy.ledger.lines.budget import LedgerBudget
from tfl_research.privacy.ledger.lines.entries import (
    Entry,
    Release,
    Restart,
    Round,
    parse_entry,
)
from tfl_research.privacy.ledger.lines.run_record import RunRecord

# Rounds and releases by run, tag (see `RunRecord.counts`) and event.
Counts = dict[tuple[str, str, Event], int]
_OTHERS = {"run", "population"}


@dataclasses.dataclass(frozen=True)
class RunSpent:
    """The spending of one run.

    Attributes:
      run: the run's id. If the id is unknown, or the run's own ledger has an earlier
        version, the name of the run's folder.
      entries: rounds, restarts and releases, in the order of the lines.
    """

    run: str
    entries: tuple[Entry, ...]

    @property
    def events(self) -> tuple[Event, ...]:
        """The event of every charged round, including repeated rounds."""
        return tuple(one.event for one in self.entries if isinstance(one, Round))

    @property
    def releases(self) -> tuple[Release, ...]:
        """The further releases."""
        return tuple(one for one in self.entries if isinstance(one, Release))

    @property
    def groups(self) -> list[tuple[Event, int]]:
        """Each event with its number of charges, in order of first lines."""
        counts = RunRecord(self.entries).counts
        return [(event, count) for (_, event), count in counts.items()]


class SharedRounds:
    """The content of the lines of a shared ledger that were read so far.

    Attributes:
      runs: the spending of each run, by run.
      counts: rounds and releases by run, tag and event.
      population: the population of all lines; None if no run has a line.
      budget: the budget that was written last, or None.
    """

    def __init__(self, chain: HashChain) -> None:
        self._chain = chain
        self._parsed: dict[str, Event] = {}
        self.runs: dict[str, RunRecord] = {}
        # Counts are kept beside `runs`, since counting again would visit every line.
        self.counts: Counts = {}
        self.population: Population | None = None
        self.budget: LedgerBudget | None = None

    def read(self, *, repair: bool) -> None:
        """Reads the lines added since the last call; see `HashChain.read`."""
        start = len(self._chain) + 1
        for number, fields in enumerate(self._chain.read(repair=repair), start=start):
            where = f"{self._chain.path}, line {number}"
            if "budget" in fields:
                self.budget = LedgerBudget.parse(where, fields)
            else:
                self._add_line(where, fields)

    def _add_line(self, where: str, fields: Mapping[str, Any]) -> None:
        if "run" not in fields or "population" not in fields:
            raise ValueError(
                f"{where}: not a line of a shared ledger (has {', '.join(fields)}); "
                "give a ledger that runs share"
            )
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
            raise ValueError(
                f"{where}: is about another population than line 1; restore the file "
                "from a copy"
            )
        entry = self._entry(where, fields)
        self._add(f"{where}: run {fields['run']}", fields["run"], population, entry)

    def _entry(self, where: str, fields: Mapping[str, Any]) -> Entry:
        """Calls `parse_entry`; equal events are parsed once and share an object."""
        text = json.dumps(fields.get("event"), sort_keys=True)
        event = self._parsed.get(text)
        names = set(fields) - {"plugin"}
        if event is not None and names == {"round", "event", *_OTHERS}:
            return Round(fields["round"], event)
        entry = parse_entry(where, fields, _OTHERS)
        if not isinstance(entry, Restart):
            self._parsed[text] = entry.event
        return entry

    def add(self, run: str, population: Population, entry: Entry) -> None:
        """Adds the next entry of a run."""
        self._add(f"{self._chain.path}, run {run}", run, population, entry)

    def _add(self, where: str, run: str, population: Population, entry: Entry) -> None:
        record = self.runs.get(run) or RunRecord()
        record.add(where, entry)
        self.runs[run] = record
        self.population = population
        if not isinstance(entry, Restart):
            key = run, record.tag(entry), entry.event
            self.counts[key] = self.counts.get(key, 0) + 1

    def counts_after(self, run: str, rounds: int, event: Event) -> Counts:
        """Returns the counts as if a run had at least so many rounds.

        Args:
          run: the run.
          rounds: the number of the run's rounds, 0 or more.
          event: the event of the rounds that the run does not have yet.
        """
        if rounds < 0:
            raise ValueError(f"rounds must be at least 0, got {rounds}")
        record = self.runs.get(run) or RunRecord()
        more = rounds - len(record.rounds)
        return self.with_more(run, "", event, more) if more > 0 else self.counts

    def with_more(self, run: str, tag: str, event: Event, more: int = 1) -> Counts:
        """Returns the counts with more charges of an event."""
        counts, key = dict(self.counts), (run, tag, event)
        counts[key] = counts.get(key, 0) + more
        return counts
