"""Reads ledgers, a run's own or a shared one, without locking or changing them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.ledger import identity
from tfl_research.privacy.ledger.hash_chain import NOT_JSON, HashChain
from tfl_research.privacy.ledger.identity import Population
from tfl_research.privacy.ledger.lines.budget import LedgerBudget
from tfl_research.privacy.ledger.lines.entries import (
    MissingPluginError,
)
from tfl_research.privacy.ledger.lines.header import Header
from tfl_research.privacy.ledger.lines.own_lines import OwnLines
from tfl_research.privacy.ledger.shared.shared_rounds import RunSpent, SharedRounds
from tfl_research.storage.files import user_paths


class DamageError(ValueError):
    """A ledger has damaged or missing lines, so that what was spent is unknown."""


@dataclasses.dataclass(frozen=True)
class Spending:
    """The content of a ledger.

    Attributes:
      chain: the lines that were read; the file is closed.
      runs: the spending of each run; empty in a ledger without rounds.
      torn: whether a kill cut off the last line, whose round was never computed.
      shared: whether the ledger is a shared ledger.
      population: the population of a shared ledger; None for a run's own ledger.
      budget: the budget of a shared ledger; None without a budget.
      header: the header of a run's own ledger; None in a ledger of an earlier version.
    """

    chain: HashChain
    runs: tuple[RunSpent, ...]
    torn: bool
    shared: bool = False
    population: Population | None = None
    budget: LedgerBudget | None = None
    header: Header | None = None

    @property
    def path(self) -> pathlib.Path:
        """The ledger's file."""
        return self.chain.path

    def check_position(self, position: Mapping[str, Any], source: str) -> None:
        """Checks that the ledger still has the lines that it had earlier.

        Args:
          position: an earlier position, see `HashChain.position`.
          source: words for the place where the position was noted, for the message.

        Raises:
          DamageError: the last lines were cut off, or lines were replaced.
        """
        try:
            self.chain.check_position(position)
        except ValueError as error:
            raise DamageError(f"{error} (noted in {source})") from error

    @property
    def run_id(self) -> str | None:
        """The run's id; None if it is unknown, and for a shared ledger."""
        if self.shared:
            return None
        if self.header is not None:
            return self.header.run
        return identity.recorded_run_id(self.path.parent)

    @property
    def end_is_known(self) -> bool:
        """Whether a head file next to the ledger says where the ledger ends."""
        return self.chain.head is not None

    @property
    def clients(self) -> int | None:
        """The number of sampled clients, from the events or the population.

        The result is None if the number is unknown. The population also counts held-out
        clients.
        """
        for run in self.runs:
            for event, _ in run.groups:
                if event.num_clients is not None:
                    return event.num_clients
        return None if self.population is None else self.population.clients

    @property
    def groups(self) -> list[tuple[Event, int]]:
        """A pair for each run and event, see `accounting.composed_epsilon`."""
        return [group for run in self.runs for group in run.groups]


def ledger_path(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the ledger's file, given the file or a run's folder.

    Raises:
      ValueError: there is no such file.
    """
    place = user_paths.expanded(path)
    file = place / "ledger.jsonl" if place.is_dir() else place
    if not file.is_file():
        raise ValueError(
            f"{path}: no such ledger; give a ledger file or the folder of a private run"
        )
    return file


def read_ledger(path: str | os.PathLike[str]) -> Spending:
    """Reads and verifies a ledger.

    Args:
      path: see `ledger_path`.

    Raises:
      DamageError: a line is damaged; the message names file and line.
      MissingPluginError: the plugin of an event was not imported; the message names the
        plugin.
      ValueError: the file does not exist, or cannot be read.
    """
    chain = HashChain(ledger_path(path), writable=False)
    with contextlib.closing(chain):
        try:
            return _read(chain)
        except MissingPluginError:
            raise
        except ValueError as error:
            raise DamageError(str(error)) from error


def _read(chain: HashChain) -> Spending:
    if _is_shared(chain.path):
        rounds = SharedRounds(chain)
        rounds.read(repair=False)
        chain.check_head()
        runs = [
            RunSpent(run, tuple(record.entries)) for run, record in rounds.runs.items()
        ]
        return Spending(
            chain, tuple(runs), chain.torn, True, rounds.population, rounds.budget
        )
    lines = OwnLines()
    lines.read(chain, repair=False)
    chain.check_head()
    folder = chain.path.resolve().parent
    entries = tuple(lines.record.entries)
    runs = [RunSpent(folder.name, entries)] if entries else []
    return Spending(chain, tuple(runs), chain.torn, header=lines.header)


def _is_shared(path: pathlib.Path) -> bool:
    """Whether the first line is that of a shared ledger: a run's line or a budget."""
    with open(path, "rb") as file:
        first_line = file.readline()
    try:
        fields = json.loads(first_line)
        return "ledger" not in fields and ("run" in fields or "budget" in fields)
    except (*NOT_JSON, TypeError):
        # The file is empty, or its line is damaged; reading the lines reports damage.
        return False
