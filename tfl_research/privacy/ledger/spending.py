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
from tfl_research.privacy.ledger import ledger
from tfl_research.privacy.ledger.hash_chain import HashChain
from tfl_research.privacy.ledger.identity import Population
from tfl_research.privacy.ledger.shared_rounds import RunSpent, SharedRounds


class DamageError(ValueError):
    """A ledger has damaged or missing lines, so that what was spent is unknown."""


@dataclasses.dataclass(frozen=True)
class Spending:
    """The content of a ledger.

    Attributes:
      chain: the lines, read; the file is closed.
      shared: whether the ledger is one that runs share.
      runs: what each run has spent; none in a ledger without rounds.
      population: of a shared ledger; None for a run's own ledger.
      torn: whether a kill cut off the last line; its round was never computed.
    """

    chain: HashChain
    shared: bool
    runs: tuple[RunSpent, ...]
    population: Population | None
    torn: bool

    @property
    def path(self) -> pathlib.Path:
        """The ledger's file."""
        return self.chain.path

    def check_position(self, position: Mapping[str, Any], source: str) -> None:
        """Checks that the ledger still has the lines that it had earlier.

        Args:
          position: an earlier position, see `HashChain.position`.
          source: where the position was noted, for the message.

        Raises:
          DamageError: see `HashChain.check_position`.
        """
        try:
            self.chain.check_position(position)
        except ValueError as error:
            raise DamageError(f"{error} (noted in {source})") from error

    @property
    def clients(self) -> int | None:
        """Number of clients, from the population or the events; None if unknown."""
        if self.population is not None:
            return self.population.clients
        for run in self.runs:
            for event, _ in run.groups:
                if event.num_clients is not None:
                    return event.num_clients
        return None

    @property
    def groups(self) -> list[tuple[Event, int]]:
        """One pair for each run and event, see `accounting.composed_epsilon`."""
        return [group for run in self.runs for group in run.groups]


def ledger_path(path: str | os.PathLike[str]) -> pathlib.Path:
    """The ledger's file, given the file or a run's folder.

    Raises:
      ValueError: there is no such file.
    """
    place = pathlib.Path(path)
    file = place / "ledger.jsonl" if place.is_dir() else place
    if not file.is_file():
        raise ValueError(
            f"{path}: no such ledger; give a ledger file or the folder of a private run"
        )
    return file


def read(path: str | os.PathLike[str]) -> Spending:
    """Reads and verifies a ledger.

    Args:
      path: see `ledger_path`.

    Raises:
      DamageError: a line is damaged; names file and line.
      MissingPluginError: the plugin of an event was not imported; names the plugin.
      ValueError: there is no such file, or it cannot be read.
    """
    chain = HashChain(ledger_path(path), writable=False)
    with contextlib.closing(chain):
        try:
            return _read(chain)
        except ledger.MissingPluginError:
            raise
        except ValueError as error:
            raise DamageError(str(error)) from error


def _read(chain: HashChain) -> Spending:
    shared = _is_shared(chain.path)
    population = None
    if shared:
        rounds = SharedRounds(chain)
        rounds.read(repair=False)
        runs = [RunSpent(run, tuple(events)) for run, events in rounds.runs.items()]
        population = rounds.population
    else:
        events = tuple(ledger.parse_rounds(chain, repair=False))
        name = chain.path.resolve().parent.name
        runs = [RunSpent(name, events)] if events else []
    return Spending(chain, shared, tuple(runs), population, chain.torn)


def _is_shared(path: pathlib.Path) -> bool:
    """Whether the first line names a run."""
    with open(path, "rb") as file:
        first_line = file.readline()
    try:
        return "run" in json.loads(first_line)
    except (ValueError, TypeError):
        # An empty file, or a damaged line, which the reader of the lines names.
        return False
