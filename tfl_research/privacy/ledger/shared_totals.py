"""ε of the counts of a shared ledger, and whether it keeps within budgets."""

from __future__ import annotations

from tfl_research.privacy.accounting.relations import Total
from tfl_research.privacy.ledger.ledger_budget import LedgerBudget
from tfl_research.privacy.ledger.shared_rounds import Counts

# A check of the budget covers so many further rounds, if they all fit.
_AHEAD = (64, 8, 0)


class SharedTotals:
    """Composes counts, and remembers what keeps within a budget."""

    def __init__(self) -> None:
        # Counts that keep within a budget.
        self._within: dict[LedgerBudget, Counts] = {}

    def total(self, counts: Counts, delta: float, accountant: str | None) -> Total:
        """ε of all that is counted, and its relation."""
        # The accountants are slow to import, and only composition needs them.
        from tfl_research.privacy.accounting.totals import composed_total

        groups = [(event, count) for (_, _, event), count in counts.items()]
        return composed_total(groups, delta, accountant)

    def exceed(self, counts: Counts, budget: LedgerBudget) -> bool:
        """Whether ε of the counts is above the budget.

        Most calls cost microseconds: ε is composed only if no earlier check covers the
        counts.
        """
        within = self._within.get(budget, {})
        if all(count <= within.get(key, 0) for key, count in counts.items()):
            return False
        for ahead in _AHEAD:
            wide = {
                # A mechanism over all rounds has no event for further rounds.
                key: count + (ahead if key[2].composes_by_round else 0)
                for key, count in counts.items()
            }
            total = self.total(wide, budget.delta, budget.accountant)
            if total.epsilon <= budget.epsilon:
                self._within[budget] = wide
                return False
        return True
