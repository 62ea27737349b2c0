"""Joins several ledgers so that every run is counted once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.events.record_event import RecordEvent
from tfl_research.privacy.ledger.lines.budget import LedgerBudget
from tfl_research.privacy.ledger.lines.entries import (
    Entry,
    Restart,
)
from tfl_research.privacy.ledger.shared.shared_rounds import RunSpent
from tfl_research.privacy.ledger.spending import DamageError, Spending


@dataclasses.dataclass(frozen=True)
class LedgerSet:
    """The runs of several ledgers over the same clients.

    Attributes:
      ledgers: the ledgers, each file once.
      runs: the spending of the runs, each run once.
    """

    ledgers: tuple[Spending, ...]
    runs: tuple[RunSpent, ...]

    @property
    def groups(self) -> list[tuple[Event, int]]:
        """A pair for each run and event, see `accounting.composed_total`."""
        return [group for run in self.runs for group in run.groups]

    @property
    def clients(self) -> int | None:
        """The largest number of clients in a ledger; None if not known."""
        sizes = (one.clients for one in self.ledgers if one.clients is not None)
        return max(sizes, default=None)

    @property
    def budgets(self) -> list[tuple[Spending, LedgerBudget]]:
        """The ledgers with a budget."""
        return [(one, one.budget) for one in self.ledgers if one.budget is not None]


def joined(ledgers: Sequence[Spending]) -> LedgerSet:
    """Joins ledgers.

    A file that is given twice counts once. A run counts once if its id is known. The id
    comes from a shared ledger, from the first line of the run's own ledger, or from
    `run_id` in the run's folder. If one ledger has more lines of a run than another,
    the lines that both have must be equal, and the longer ledger counts. This happens
    while a run is being written, or if a folder was copied.

    Raises:
      DamageError: a run has different lines in two ledgers.
      ValueError: the ledgers are about different populations.
    """
    files = {ledger.path.resolve(): ledger for ledger in ledgers}
    distinct = tuple(files.values())
    populations = {one.population for one in distinct if one.population is not None}
    if len(populations) > 1:
        raise ValueError(
            "the ledgers are about different populations, and their ε do not add up; "
            "show them one by one"
        )
    clients = {client_of(one) for one in distinct if one.shared and one.runs}
    client = next(iter(clients), None)
    found: dict[str, tuple[RunSpent, Spending]] = {}
    for ledger in distinct:
        for run in ledger.runs:
            key = run.run if ledger.shared else ledger.run_id
            name = str(ledger.path.resolve()) if key is None else key
            entries = run.entries
            if client is not None:
                entries = tuple(at_client(entry, client) for entry in entries)
            spent = RunSpent(run.run, entries)
            if name not in found:
                found[name] = spent, ledger
                continue
            other, of = found[name]
            _check_same(name, spent, ledger, other, of)
            if len(spent.entries) > len(other.entries):
                found[name] = RunSpent(other.run, entries), ledger
    return LedgerSet(distinct, tuple(run for run, _ in found.values()))


def _check_same(
    run: str, first: RunSpent, ledger: Spending, other: RunSpent, of: Spending
) -> None:
    for one, two in zip(first.entries, other.entries):
        if one != two:
            raise DamageError(
                f"{ledger.path}: has {one} of run {run}, but {of.path} has {two}: the "
                "files are not copies of one run, or one was changed, so nobody knows "
                "what was spent; restore one from a copy"
            )


def client_of(shared: Spending) -> str | None:
    """Returns the client whose records a ledger covers; None for whole clients."""
    for run in shared.runs:
        for event in run.events[:1]:
            if shared.shared and isinstance(event, RecordEvent):
                return event.clients[0][0]
    return None


def at_client(entry: Entry, client: str) -> Entry:
    """Returns an entry of a run's own ledger with the event of one client's records."""
    if isinstance(entry, Restart) or not isinstance(entry.event, RecordEvent):
        return entry
    names = [name for name, _ in entry.event.clients]
    if client not in names:
        return entry
    at = entry.event.of_client(names.index(client))
    return dataclasses.replace(entry, event=at)
