"""Writes a budget into a shared ledger, where it binds every run."""

from __future__ import annotations

import contextlib
import os

from tfl_research.privacy.ledger import spending
from tfl_research.privacy.ledger.hash_chain import HashChain
from tfl_research.privacy.ledger.lines.budget import LedgerBudget
from tfl_research.privacy.ledger.shared.shared_rounds import SharedRounds


def write_budget(
    path: str | os.PathLike[str], budget: LedgerBudget, *, may_raise: bool = False
) -> LedgerBudget | None:
    """Writes a budget into a shared ledger; a missing ledger is made.

    Args:
      path: the path of the ledger.
      budget: binds every round from now on. Equal to the present one: nothing is
        written.
      may_raise: whether the budget may allow more than the present one; the line then
        says so.

    Returns:
      The budget until now, or None.

    Raises:
      DamageError: a damaged ledger.
      ValueError: one run's own ledger, or a budget that allows more.
    """
    if os.path.isdir(path):
        raise ValueError(f"{path}: is a folder; give the file of a shared ledger")
    if os.path.exists(path):
        # Before the file is locked, and its end is repaired: it may be another file.
        there = spending.read_ledger(path)
        if len(there.chain) and not there.shared:
            raise ValueError(
                f"{path}: is one run's own ledger; give a ledger that runs share"
            )
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
