"""A budget that is written into a shared ledger and binds every run in it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

from tfl_research.privacy.accounting.events import ACCOUNTANTS, check_delta
from tfl_research.privacy.ledger.hash_chain import HashChain

_NAMES = {"budget", "delta", "accountant"}


@dataclasses.dataclass(frozen=True)
class LedgerBudget:
    """ε that all runs in a ledger together must not exceed.

    Attributes:
      epsilon: above 0.
      delta: at which ε is composed, whatever the δ of the runs.
      accountant: "pld", "rdp", or None for the tightest that applies.

    Raises:
      ValueError: a value out of range.
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
    def parse(cls, where: str, fields: Mapping[str, Any]) -> LedgerBudget:
        """The budget in a line; `where` names file and line.

        Raises:
          ValueError: other fields or values.
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
        """The fields of the line."""
        return {
            "budget": self.epsilon,
            "delta": self.delta,
            "accountant": self.accountant,
        }

    def is_within(self, other: LedgerBudget) -> bool:
        """Whether every run that this budget allows is one that `other` allows."""
        same = self.accountant == other.accountant
        # Rényi DP is never the tighter one where both apply.
        stricter = same or (self.accountant, other.accountant) == ("rdp", None)
        return self.epsilon <= other.epsilon and self.delta <= other.delta and stricter

    def __str__(self) -> str:
        how = "" if self.accountant is None else f", {self.accountant.upper()}"
        return f"ε = {self.epsilon:g} at δ = {self.delta:g}{how}"


def write_budget(
    path: str | os.PathLike[str], budget: LedgerBudget, *, may_raise: bool = False
) -> LedgerBudget | None:
    """Writes a budget into a shared ledger; a missing ledger is made.

    Args:
      path: of the ledger.
      budget: binds every round from now on. Equal to the present one: nothing is
        written.
      may_raise: whether the budget may allow more than the present one; the line then
        says so.

    Returns:
      The budget until now, or None.

    Raises:
      ValueError: a damaged ledger, one run's own ledger, or a budget that allows more.
    """
    from tfl_research.privacy.ledger.shared_rounds import SharedRounds

    if os.path.isdir(path):
        raise ValueError(f"{path}: is a folder; give the file of a shared ledger")
    with contextlib.closing(HashChain(path)) as chain, chain.locked():
        rounds = SharedRounds(chain)
        rounds.read(repair=True)
        chain.check_head()
        present = rounds.budget
        if present == budget:
            return present
        raises = present is not None and not budget.is_within(present)
        if raises and not may_raise:
            raise ValueError(
                f"{path} has the budget {present}, and {budget} would allow more: give "
                "--raise if all who rely on the budget agree"
            )
        chain.append({**budget.fields(), **({"raised": True} if raises else {})})
        return present
