"""The line of a budget in a shared ledger."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from tfl_research.privacy.accounting.events import ACCOUNTANTS, check_delta

_NAMES = {"budget", "delta", "accountant"}


@dataclasses.dataclass(frozen=True)
class LedgerBudget:
    """A budget: the ε that all runs in a ledger together must not exceed.

    Attributes:
      epsilon: largest ε of all runs together, above 0.
      delta: the δ at which ε is composed, whatever the δ of the runs.
      accountant: "pld", "rdp", or None for the tightest that applies.

    Raises:
      ValueError: a value is out of range.
    """

    epsilon: float
    delta: float
    accountant: str | None = None

    def __post_init__(self) -> None:
        if not (self.epsilon > 0 and math.isfinite(self.epsilon)):
            raise ValueError(f"epsilon must be above 0 and finite, got {self.epsilon}")
        check_delta(self.delta)
        if self.accountant not in (None, *ACCOUNTANTS):
            raise ValueError(
                f"accountant must be None or one of {ACCOUNTANTS}, got "
                f"{self.accountant!r}"
            )

    @classmethod
    def of_run(
        cls, delta: float, accountant: str | None, epsilon: float | None
    ) -> LedgerBudget | None:
        """Makes the budget of a run; None without an ε."""
        return None if epsilon is None else cls(epsilon, delta, accountant)

    @classmethod
    def parse(cls, where: str, fields: Mapping[str, Any]) -> LedgerBudget:
        """Reads the budget in a line; `where` names file and line in messages.

        Raises:
          ValueError: the line has other fields, or a value is out of range.
        """
        if set(fields) - {"raised"} != _NAMES:
            raise ValueError(
                f"{where}: not a ledger line (has {', '.join(fields)}; expected "
                f"{', '.join(sorted(_NAMES))})"
            )
        try:
            return cls(
                float(fields["budget"]), float(fields["delta"]), fields["accountant"]
            )
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: not a ledger line ({error})") from error

    def fields(self) -> dict[str, Any]:
        """Returns the fields of the line."""
        return {
            "budget": self.epsilon,
            "delta": self.delta,
            "accountant": self.accountant,
        }

    def is_within(self, other: LedgerBudget) -> bool:
        """Whether `other` allows every run that this budget allows."""
        same = self.accountant == other.accountant
        # Where both accountants apply, Rényi DP is never the tighter one.
        stricter = same or (self.accountant, other.accountant) == ("rdp", None)
        return self.epsilon <= other.epsilon and self.delta <= other.delta and stricter

    def __str__(self) -> str:
        how = "" if self.accountant is None else f", {self.accountant.upper()}"
        return f"ε = {self.epsilon:g} at δ = {self.delta:g}{how}"
