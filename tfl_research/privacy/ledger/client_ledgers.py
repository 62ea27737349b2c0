"""Ledgers that record-level runs share: one for each client, in one folder.

What a round costs a record depends on its client alone, by its number of records and
its δ, so that a client's records are a population of their own, with a ledger, a total
and a budget of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.events.record_event import RecordEvent
from tfl_research.privacy.ledger.identity import Population
from tfl_research.privacy.ledger.shared_ledger import BudgetExceededError, SharedLedger


def population_of(client: str, records: int) -> Population:
    """A client's records, which have no ids: told by their client and number."""
    text = json.dumps([client, records], separators=(",", ":")).encode()
    return Population(records, hashlib.sha256(text).hexdigest())


def ledger_name(client: str) -> str:
    """File name of a client's ledger."""
    return urllib.parse.quote(client, safe=" ") + ".jsonl"


class ClientLedgers(contextlib.ExitStack):
    """The clients' shared ledgers, open for one run; used as one `SharedLedger`.

    Clients without records have none. A round is put into one after the other: a
    kill, or a budget that another run exhausts in between, can leave it in some of
    them alone, which are then charged for a round that nobody saw.

    Attributes:
      path: the folder.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        run: str,
        event: RecordEvent,
        deltas: Sequence[float],
        recorded: Sequence[RecordEvent] = (),
    ) -> None:
        """Opens the ledgers, creating folder and files when there are none.

        Args:
          path: the folder.
          run: from `identity.run_id`.
          event: what each round of the run does at all clients.
          deltas: δ_k of each client, in the order of the event's clients.
          recorded: the events in the run's own ledger, which must be here too.

        Raises:
          ValueError: see `SharedLedger`; a folder that cannot be made.
        """
        super().__init__()
        self.path = pathlib.Path(path)
        self._deltas = dict(zip((name for name, _ in event.clients), deltas))
        self._indices = {
            name: index for index, (name, n) in enumerate(event.clients) if n > 0
        }
        self._ledgers: dict[str, SharedLedger] = {}
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot make {path} ({error.strerror})") from error
        try:
            for name, index in self._indices.items():
                self._ledgers[name] = self.enter_context(
                    SharedLedger(
                        self.path / ledger_name(name),
                        run,
                        population_of(name, event.clients[index][1]),
                        [one.of_client(index) for one in recorded],
                    )
                )
        except BaseException:
            self.close()
            raise

    def check_fits(self, event: Event) -> None:
        """See `SharedLedger.check_fits`."""
        self._each(lambda name, one: one.check_fits(self._at(event, name)))

    def record(self, round_number: int, event: Event) -> None:
        """See `SharedLedger.record`."""
        self._each(lambda name, one: one.record(round_number, self._at(event, name)))

    def charge(
        self,
        round_number: int,
        event: Event,
        delta: float,
        accountant: str | None,
        budget_epsilon: float,
    ) -> None:
        """See `SharedLedger.charge`; every client has its own δ.

        Raises:
          BudgetExceededError: some client's records would exceed the budget.
        """
        asked = accountant, budget_epsilon
        # Before anything is written, so that but a race leaves a part of the round.
        if self.would_exceed(round_number, event, delta, *asked):
            raise BudgetExceededError(
                f"{self.path}: round {round_number} would put ε of a client's records "
                f"above the budget of {budget_epsilon:g}"
            )
        self._each(
            lambda name, one: one.charge(
                round_number, self._at(event, name), self._deltas[name], *asked
            )
        )

    def would_exceed(
        self,
        rounds: int,
        event: Event,
        delta: float,
        accountant: str | None,
        budget_epsilon: float,
    ) -> bool:
        """See `SharedLedger.would_exceed`: whether any client's would."""
        asked = accountant, budget_epsilon
        return any(
            self._each(
                lambda name, one: one.would_exceed(
                    rounds, self._at(event, name), self._deltas[name], *asked
                )
            )
        )

    def epsilon_after(
        self, rounds: int, event: Event, delta: float, accountant: str | None = None
    ) -> float:
        """See `SharedLedger.epsilon_after`: of the client with the largest."""
        return max(
            self.client_epsilons(rounds, event, accountant).values(), default=0.0
        )

    def client_epsilons(
        self, rounds: int, event: Event, accountant: str | None = None
    ) -> dict[str, float]:
        """ε of each client's records by all runs, at the client's own δ."""
        found = self._each(
            lambda name, one: one.epsilon_after(
                rounds, self._at(event, name), self._deltas[name], accountant
            )
        )
        return dict(zip(self._ledgers, found))

    @property
    def runs_and_rounds(self) -> tuple[int, int]:
        """Of the ledger with the most rounds: of how many runs, and how many."""
        found = [(len(one), len(one.spent)) for one in self._ledgers.values()]
        rounds, runs = max(found, default=(0, 0))
        return runs, rounds

    @property
    def position(self) -> dict[str, Any]:
        """`HashChain.position` by client."""
        return {name: one.position for name, one in self._ledgers.items()}

    def check_position(self, position: Mapping[str, Any]) -> None:
        """Raises ValueError if lines that were there are gone or others."""
        for name, one in self._ledgers.items():
            if name in position:
                one.check_position(position[name])

    def _at(self, event: Event, client: str) -> RecordEvent:
        if not isinstance(event, RecordEvent):
            raise ValueError(
                f"{self.path} is of records, but a round of {event} is of "
                f"{event.unit}s; give another ledger"
            )
        return event.of_client(self._indices[client])

    def _each(self, done: Callable[[str, SharedLedger], Any]) -> list[Any]:
        return [done(name, one) for name, one in self._ledgers.items()]
