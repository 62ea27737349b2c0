"""The account of a record-level run: every client's own ε, and the largest ε."""

from __future__ import annotations

import csv
import os
import pathlib
from collections.abc import Sequence

from tfl_research.privacy.accounting.composition import composed_epsilon
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.events.record_event import RecordEvent
from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.privacy.accounting.run_curve import RunCurve
from tfl_research.privacy.ledger.accounts.round_account import RoundAccount
from tfl_research.privacy.ledger.clients.client_ledgers import ClientLedgers
from tfl_research.privacy.ledger.ledger import Ledger
from tfl_research.privacy.plans.record_level import RecordLevelPlan
from tfl_research.storage.files import safe_text

COLUMNS = (
    "round",
    "client_id",
    "records",
    "sampling_rate",
    "local_steps",
    "delta",
    "epsilon",
)


class RecordAccount(RoundAccount):
    """Charges a run's rounds at every client, whether or not the client took part.

    A record's ε is the ε of its client. The run reports the largest ε of a client and
    the largest δ, which hold for every record.

    Attributes:
      event: the event of each round at every client.
      deltas: δ_k of each client, in the order of the event's clients.
      table_path: CSV file with each client's ε after each round, or None.
    """

    event: RecordEvent

    def __init__(
        self,
        ledger: Ledger,
        plan: RecordLevelPlan,
        shared: ClientLedgers | None = None,
        table_path: str | os.PathLike[str] | None = None,
    ) -> None:
        """Checks the ledgers, and writes the table's rows for the rounds in the ledger.

        Raises:
          ValueError: `RoundAccount` refuses the ledgers, or the ledger has another
            event.
        """
        event = plan.event
        self.deltas = plan.deltas
        # Clients with equal numbers share a curve.
        curves: dict[tuple[float, float, bool], RunCurve] = {}
        self._client_curves = []
        for index, (_, records) in enumerate(event.clients):
            key = event.sampling_rates[index], self.deltas[index], records > 0
            if key not in curves:
                curves[key] = RunCurve(
                    event.of_client(index), self.deltas[index], plan.accountant
                )
            self._client_curves.append(curves[key])
        self._curves = tuple(curves.values())
        super().__init__(ledger, plan, shared)
        if any(recorded != event for recorded in ledger.record_of_run.charged):
            raise ValueError(
                f"{ledger.path} has rounds of other clients or privacy settings: "
                "resume with the settings that the run was begun with, or start a new "
                "run"
            )
        self.table_path = None if table_path is None else pathlib.Path(table_path)
        self._write_table(len(ledger))

    def _compose_ahead(self, rounds: int) -> None:
        for curve in self._curves:
            curve.up_to(rounds)

    def client_epsilons(self, rounds: int) -> tuple[float, ...]:
        """Computes ε of each client's records after `rounds` rounds."""
        beside = self.ledger.record_of_run.beside(rounds)
        return tuple(
            curve(rounds, self._at(index, beside))
            for index, curve in enumerate(self._client_curves)
        )

    def _at(
        self, index: int, groups: Sequence[tuple[Event, int]]
    ) -> tuple[tuple[Event, int], ...]:
        """Returns the events that groups charge to a client; none without records."""
        if self.event.clients[index][1] == 0:
            return ()
        return tuple(
            (event.of_client(index) if isinstance(event, RecordEvent) else event, count)
            for event, count in groups
        )

    def epsilon_after(self, rounds: int) -> float:
        """Computes the largest ε of a client's records after `rounds` rounds."""
        return max(self.client_epsilons(rounds))

    def charge(self, round_number: int) -> float | None:
        """Charges a round, and returns the largest ε of a client's records.

        Also writes the round's rows to the table of clients.
        """
        recorded = len(self.ledger)
        epsilon = super().charge(round_number)
        if len(self.ledger) > recorded and self.table_path is not None:
            with open(self.table_path, "a", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(
                    self._rows(round_number)
                )
        return epsilon

    def statement_notes(self, rounds: int) -> list[str]:
        """Writes a sentence for each client: records, δ and ε after `rounds` rounds."""
        epsilons = self.client_epsilons(rounds)
        clients = zip(self.event.clients, self.event.sampling_rates, self.deltas)
        return [
            f"The numbers above are at one δ for all clients. After {rounds} rounds, "
            "each client has at its own δ:",
            *(
                f"- {safe_text.printable(name)}: {records} records, sampling rate "
                f"{rate:.4g}, ε = {rounded_up(epsilon)} at δ = {rounded_up(delta)}."
                for ((name, records), rate, delta), epsilon in zip(clients, epsilons)
            ),
        ]

    def planned_epsilon(self) -> float:
        """Computes the largest ε of a client after the planned rounds and releases."""
        groups = self.planned_groups()
        return max(
            composed_epsilon(self._at(index, groups), delta, self.accountant)
            for index, delta in enumerate(self.deltas)
        )

    def _release_exceeds(self, round_number: int, event: Event) -> bool:
        if self.budget_epsilon is None:
            return False
        groups = [*self.groups(len(self.ledger)), (event, 1)]
        return any(
            composed_epsilon(self._at(index, groups), delta, self.plan.accountant)
            > self.budget_epsilon
            for index, delta in enumerate(self.deltas)
        )

    def recharge_after(self, completed_rounds: int) -> None:
        """Begins a new attempt after a round, and rewrites the table of clients."""
        super().recharge_after(completed_rounds)
        self._write_table(len(self.ledger))

    def _rows(self, round_number: int) -> list[list[str]]:
        clients = zip(self.event.clients, self.event.sampling_rates, self.deltas)
        epsilons = self.client_epsilons(round_number)
        return [
            [
                str(round_number),
                safe_text.to_cell(name),
                str(records),
                f"{rate:.9g}",
                str(self.event.local_steps),
                f"{delta:.9g}",
                f"{epsilon:.9g}",
            ]
            for ((name, records), rate, delta), epsilon in zip(clients, epsilons)
        ]

    def _write_table(self, rounds: int) -> None:
        """Rewrites the table, since a kill can leave its last line unfinished."""
        if self.table_path is None:
            return
        with open(self.table_path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for round_number in range(1, rounds + 1):
                writer.writerows(self._rows(round_number))
