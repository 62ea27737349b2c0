"""A run's own ledger and the ledger that runs share, written as one.

The shared ledger is written first, so that it always has every line of the run's own
ledger. After a kill between the two writes, the shared ledger has one more line, which
the own ledger then catches up with.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Union

from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.ledger.clients.client_ledgers import ClientLedgers
from tfl_research.privacy.ledger.ledger import Ledger
from tfl_research.privacy.ledger.shared.shared_ledger import (
    BudgetExceededError,
    SharedLedger,
)

Shared = Union[SharedLedger, ClientLedgers]


class ChargeError(ValueError):
    """A round cannot be charged, because a ledger changed since the account was opened.

    For example, another run began the shared ledger under another neighbouring
    relation, or a line was damaged.
    """


@contextlib.contextmanager
def charge_errors() -> Iterator[None]:
    """Makes a `ChargeError` of each ValueError but `BudgetExceededError`."""
    try:
        yield
    except BudgetExceededError:
        raise
    except ValueError as error:
        raise ChargeError(str(error)) from error


class RunLedgers:
    """The ledgers that a run writes.

    Args:
      own: the run's ledger, open.
      shared: the ledgers of several runs, open for this run; or None.
    """

    def __init__(self, own: Ledger, shared: Shared | None) -> None:
        self._own, self._shared = own, shared

    def catch_up(self) -> None:
        """Adds the lines of this run that only the shared ledger has."""
        if self._shared is not None:
            self._own.catch_up(self._shared.entries)

    def charge(
        self,
        round_number: int,
        event: Event,
        delta: float,
        accountant: str | None,
        budget_epsilon: float | None,
    ) -> None:
        """Writes a round durably; see `SharedLedger.charge`.

        Raises:
          BudgetExceededError: all runs together would exceed a budget.
          ValueError: a ledger refuses the round.
        """
        if self._shared is None:
            pass
        elif budget_epsilon is None:
            self._shared.record(round_number, event)
        else:
            self._shared.charge(round_number, event, delta, accountant, budget_epsilon)
        self._own.record(round_number, event)

    def release(
        self,
        name: str,
        round_number: int,
        event: Event,
        delta: float,
        accountant: str | None,
        budget_epsilon: float | None,
    ) -> None:
        """Writes a further release durably; see `SharedLedger.release`.

        Raises:
          BudgetExceededError: all runs together would exceed a budget.
          ValueError: a ledger refuses the release.
        """
        if self._shared is not None:
            self._shared.release(
                name, round_number, event, delta, accountant, budget_epsilon
            )
        self._own.release(name, round_number, event)

    def restart(self, after: int) -> None:
        """Writes a restart durably; see `Ledger.restart`."""
        if self._shared is not None:
            self._shared.restart(after)
        self.catch_up()
        self._own.restart(after)

    def positions(self) -> dict[str, Any]:
        """Returns the ledgers' positions, which checkpoints keep.

        Raises:
          ValueError: somebody else changed the run's own ledger meanwhile.
        """
        self._own.check_unchanged()
        return {name: ledger.position for name, ledger in self._named()}

    def check_positions(self, positions: Mapping[str, Any]) -> None:
        """Checks that the ledgers still have all lines that they had earlier.

        Args:
          positions: an earlier result of `positions`.

        Raises:
          ValueError: a ledger lost its last lines, or was replaced.
        """
        for name, ledger in self._named():
            if name in positions:
                ledger.check_position(positions[name])

    def _named(self) -> list[tuple[str, Ledger | Shared]]:
        ledgers: list[tuple[str, Ledger | Shared]] = [("own", self._own)]
        if self._shared is not None:
            ledgers.append(("shared", self._shared))
        return ledgers
