"""Writes a budget into a shared ledger; the budget then binds every run."""

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
    """Writes a budget into a shared ledger, and creates a missing ledger.

    Args:
      path: the path of the ledger.
      budget: the new budget, which binds every later round. If it equals the present
        budget, nothing is written.
      may_raise: whether the budget may allow more than the present budget; the line
        then says so.

    Returns:
      The budget until now, or None.

    Raises:
      DamageError: the ledger is damaged.
      ValueError: the path is a folder or one run's own ledger, or the budget allows
        more than the present budget and `may_raise` is false.
    """
    if os.path.isdir(path):
        raise ValueError(f"{path}: is a folder; give the file of a shared ledger")
    if os.path.exists(path):
        # Read first without lock and repair, since the path may name another file.
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
