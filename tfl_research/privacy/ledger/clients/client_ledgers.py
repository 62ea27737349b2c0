"""Ledgers that record-level runs share: a ledger for each client, in one folder.

The ε that a round costs a record depends only on the number of records of its client
and on the client's δ. So each client's records are a population with its own ledger,
total and budget.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.events.record_event import RecordEvent
from tfl_research.privacy.accounting.relations import Total
from tfl_research.privacy.ledger.clients.client_files import (
    ledger_name,
    other_clients,
    population_of,
)
from tfl_research.privacy.ledger.clients.client_lines import ClientLines
from tfl_research.privacy.ledger.lines.budget import LedgerBudget
from tfl_research.privacy.ledger.lines.entries import Entry, Restart, Round
from tfl_research.privacy.ledger.shared.shared_ledger import (
    BudgetExceededError,
    SharedLedger,
)
from tfl_research.storage.files import user_paths


class ClientLedgers(contextlib.ExitStack):
    """The clients' shared ledgers, open for one run; used like one `SharedLedger`.

    Clients without records have no ledger. A round is written to one ledger after the
    other. After a kill, or if another run exhausts the budget in between, only some
    ledgers have the round. The clients of these ledgers are then charged for a round
    that was never released.

    Attributes:
      path: the folder.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        run: str,
        event: RecordEvent,
        deltas: Sequence[float],
        recorded: Sequence[Entry] = (),
        drawn_by: str | None = None,
    ) -> None:
        """Opens the ledgers; creates a missing folder and missing files.

        Args:
          path: the folder.
          run: the run's id, from `identity.run_id`.
          event: the event of each round of the run, at all clients.
          deltas: δ_k of each client, in the order of the event's clients.
          recorded: `Ledger.entries` of the run's own ledger; the clients' ledgers must
            have these entries too.
          drawn_by: see `Population.of`.

        Raises:
          ValueError: `SharedLedger` refuses a ledger, or the folder cannot be made.
        """
        super().__init__()
        self.path = user_paths.expanded(path)
        self._run = run
        self._lines = ClientLines(self.path, event)
        self._deltas = dict(zip((name for name, _ in event.clients), deltas))
        self._ledgers: dict[str, SharedLedger] = {}
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot make {path} ({error.strerror})") from error
        try:
            for name, index in self._lines.indices.items():
                self._ledgers[name] = self.enter_context(
                    SharedLedger(
                        self.path / ledger_name(name),
                        run,
                        population_of(name, event.clients[index][1], drawn_by),
                        [self._lines.entry_at(entry, name) for entry in recorded],
                    )
                )
        except BaseException:
            self.close()
            raise

    def check_fits(self, event: Event) -> None:
        """Checks that a charge can be composed with what is recorded."""
        self._each(event, lambda ledger, at, _: ledger.check_fits(at))

    def record(self, round_number: int, event: Event) -> None:
        """Charges a round without a budget of the run; see `charge`."""
        self._each(event, lambda ledger, at, _: ledger.record(round_number, at))

    def charge(
        self,
        round_number: int,
        event: Event,
        delta: float,
        accountant: str | None,
        budget_epsilon: float,
    ) -> None:
        """Writes a round durably to every client's ledger, unless recorded already.

        Args:
          round_number: the number of the round in the run, from 1.
          event: the event that the round charges.
          delta: not used: every client has its own δ.
          accountant: "pld", "rdp", or None for the tightest accountant that applies.
          budget_epsilon: the largest ε that any client's records may reach.

        Raises:
          BudgetExceededError: some client's records would exceed a budget.
        """
        # All ledgers are checked before any is written. So only a race with another run
        # can leave the round in some ledgers.
        if self.would_exceed(round_number, event, delta, accountant, budget_epsilon):
            raise BudgetExceededError(
                f"{self.path}: round {round_number} would put ε of a client's records "
                f"above the budget of {budget_epsilon:g}, or of the client's ledger"
            )
        self._each(
            event,
            lambda ledger, at, own_delta: ledger.charge(
                round_number, at, own_delta, accountant, budget_epsilon
            ),
        )

    def release(
        self,
        name: str,
        round_number: int,
        event: Event,
        delta: float,
        accountant: str | None,
        budget_epsilon: float | None,
    ) -> None:
        """Writes a further release durably to every client's ledger.

        The event covers each client's records: a `RecordEvent` of all clients, or any
        event whose unit is a record. `delta` is not used: every client has its own δ.

        Raises:
          BudgetExceededError: some client's records would exceed a budget.
        """
        how = accountant, budget_epsilon
        # All ledgers are checked first, so that a refusal leaves no line in any ledger.
        exceed = self._each(
            event,
            lambda ledger, at, own_delta: ledger.release_would_exceed(
                name, round_number, at, own_delta, *how
            ),
        )
        if any(exceed):
            raise BudgetExceededError(
                f"{self.path}: {name} after round {round_number} would put ε of a "
                "client's records above a budget"
            )
        self._each(
            event,
            lambda ledger, at, own_delta: ledger.release(
                name, round_number, at, own_delta, *how
            ),
        )

    def restart(self, after: int) -> None:
        """Writes a restart of this run durably to every client's ledger.

        If only some ledgers have the last line, the other ledgers get this line first.
        """
        lines = self._ordered()
        if lines and len(lines[0]) < len(lines[-1]):
            (last,) = self._lines.of_run(lines[-1][-1:])
            for name, ledger in self._ledgers.items():
                if len(ledger.entries) < len(lines[-1]):
                    self._complete(name, ledger, last)
        for ledger in self._ledgers.values():
            ledger.restart(after)

    def _complete(self, client: str, ledger: SharedLedger, entry: Entry) -> None:
        if isinstance(entry, Restart):
            ledger.restart(entry.after)
            return
        event, delta = self._lines.event_at(entry.event, client), self._deltas[client]
        if isinstance(entry, Round):
            ledger.record(entry.round, event)
        else:
            ledger.release(entry.release, entry.round, event, delta, None, None)

    def _ordered(self) -> list[Sequence[Entry]]:
        """Returns the lines of this run in each ledger, the fewest first."""
        return sorted((one.entries for one in self._ledgers.values()), key=len)

    @property
    def entries(self) -> Sequence[Entry]:
        """This run's entries that all ledgers have, as in the run's own ledger.

        After a kill in the middle of a charge, some ledgers have one more entry.
        """
        return tuple(self._lines.of_run(next(iter(self._ordered()), ())))

    def would_exceed(
        self,
        rounds: int,
        event: Event,
        delta: float,
        accountant: str | None,
        budget_epsilon: float | None,
    ) -> bool:
        """Whether a client's ledger would exceed a budget; see `SharedLedger`."""
        exceed = self._each(
            event,
            lambda ledger, at, own_delta: ledger.would_exceed(
                rounds, at, own_delta, accountant, budget_epsilon
            ),
        )
        return any(exceed)

    def epsilon_after(
        self, rounds: int, event: Event, delta: float, accountant: str | None = None
    ) -> float:
        """Returns the largest ε of a client; see `SharedLedger.epsilon_after`."""
        return self.total_after(rounds, event, delta, accountant).epsilon

    def total_after(
        self,
        rounds: int,
        event: Event,
        delta: float,
        accountant: str | None = None,
        further: Sequence[tuple[Event, int]] = (),
    ) -> Total:
        """Returns the largest total of a client; see `SharedLedger.total_after`."""
        del delta
        totals = [
            ledger.total_after(
                rounds,
                self._lines.event_at(event, name),
                self._deltas[name],
                accountant,
                [(self._lines.event_at(each, name), count) for each, count in further],
            )
            for name, ledger in self._ledgers.items()
        ]
        return max(totals, key=lambda total: total.epsilon, default=Total(0.0, None))

    def client_epsilons(
        self, rounds: int, event: Event, accountant: str | None = None
    ) -> dict[str, float]:
        """Computes ε of each client's records after all runs, at the client's own δ."""
        epsilons = self._each(
            event,
            lambda ledger, at, own_delta: ledger.epsilon_after(
                rounds, at, own_delta, accountant
            ),
        )
        return dict(zip(self._ledgers, epsilons))

    def budget_spent(self) -> tuple[LedgerBudget, float] | None:
        """Returns budget and ε of the client that spent the largest share of a budget.

        The result is None if no client's ledger has a budget.
        """
        found = (ledger.budget_spent() for ledger in self._ledgers.values())
        spent = [pair for pair in found if pair is not None]
        if not spent:
            return None
        return max(spent, key=lambda pair: pair[1] / pair[0].epsilon)

    @property
    def runs_and_rounds(self) -> tuple[int, int]:
        """The numbers of runs and rounds in the ledger with the most rounds."""
        sizes = [(len(ledger), len(ledger.spent)) for ledger in self._ledgers.values()]
        rounds, runs = max(sizes, default=(0, 0))
        return runs, rounds

    def lines_of(self, run: str, client: str) -> int:
        """Counts the lines of a run in a client's ledger; 0 for other clients."""
        ledger = self._ledgers.get(client)
        spent = () if ledger is None else ledger.spent
        return sum(len(one.entries) for one in spent if one.run == run)

    def others(self) -> tuple[list[str], list[str]]:
        """Finds clients that begin at ε = 0 although the folder has other ledgers.

        A ledger is found by the client's name. If a client gets another name, the
        client gets another ledger, and its ε begins at 0.

        Returns:
          The run's clients whose ledgers have no earlier run, and the clients of the
          folder's other ledgers; two empty lists if one of them is empty.
        """
        beside = other_clients(self.path, self._ledgers)
        begun = [
            name
            for name, ledger in self._ledgers.items()
            if all(spent.run == self._run for spent in ledger.spent)
        ]
        return (begun, beside) if begun and beside else ([], [])

    @property
    def position(self) -> dict[str, Any]:
        """`HashChain.position` by client."""
        return {name: ledger.position for name, ledger in self._ledgers.items()}

    def check_position(self, position: Mapping[str, Any]) -> None:
        """Checks that the ledgers still have their earlier lines.

        Raises:
          ValueError: earlier lines are gone or changed.
        """
        for name, ledger in self._ledgers.items():
            if name in position:
                ledger.check_position(position[name])

    def _each(
        self, event: Event, call: Callable[[SharedLedger, Event, float], Any]
    ) -> list[Any]:
        """Calls a function of ledger, event and δ of each client."""
        return [
            call(ledger, self._lines.event_at(event, name), self._deltas[name])
            for name, ledger in self._ledgers.items()
        ]
