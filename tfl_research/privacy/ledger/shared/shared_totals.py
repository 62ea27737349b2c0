"""Computes ε of the counts of a shared ledger, and compares ε with budgets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.relations import Total
from tfl_research.privacy.ledger.lines.budget import LedgerBudget
from tfl_research.privacy.ledger.shared.shared_rounds import Counts

if TYPE_CHECKING:
    from tfl_research.privacy.accounting.run_curve import RunCurve

# A check of the budget also covers this many further rounds, if all of them fit.
_AHEAD = (64, 8, 0)


class SharedTotals:
    """Composes counts, and remembers which counts keep within a budget."""

    def __init__(self) -> None:
        # Counts that keep within a budget.
        self._within: dict[LedgerBudget, Counts] = {}
        # The total that was asked for last, by δ and accountant.
        self._curves: dict[tuple[Event, float, str | None], RunCurve] = {}
        self._last: dict[tuple[float, str | None], tuple[Counts, Total]] = {}

    def total(self, counts: Counts, delta: float, accountant: str | None) -> Total:
        """Computes ε of the counts, and its neighbouring relation."""
        # The accountants are slow to import, and only composition needs them.
        from tfl_research.privacy.accounting.totals import composed_total

        key = delta, accountant
        if key not in self._last or self._last[key][0] != counts:
            groups = [(event, count) for (_, _, event), count in counts.items()]
            total = composed_total(groups, delta, accountant)
            self._last[key] = dict(counts), total
        return self._last[key][1]

    def after_rounds(
        self,
        counts: Counts,
        own: tuple[str, str, Event],
        delta: float,
        accountant: str | None,
    ) -> Total:
        """Computes `total` for a run that asks after each of its rounds.

        As long as no other run adds lines, the values of many rounds are composed at
        once, see `RunCurve`.

        Args:
          counts: the counts to compose.
          own: the key of the count that grows by one from call to call.
          delta: target δ.
          accountant: see `total`.
        """
        from tfl_research.privacy.accounting.composition import common_accountant
        from tfl_research.privacy.accounting.run_curve import SMALL_DELTA, RunCurve

        relations = {event.neighbouring_relation for _, _, event in counts}
        if own not in counts or len(relations) > 1 or delta < SMALL_DELTA:
            return self.total(counts, delta, accountant)
        key = own[2], delta, accountant
        if key not in self._curves:
            self._curves[key] = RunCurve(*key)
        beside = tuple(
            (event, count)
            for (run, tag, event), count in counts.items()
            if (run, tag, event) != own
        )
        epsilon = self._curves[key](counts[own], beside)
        name = common_accountant(accountant, [event for _, _, event in counts])
        return Total(epsilon, relations.pop(), None, name)

    def exceeded(
        self, counts: Counts, budgets: Iterable[LedgerBudget | None]
    ) -> LedgerBudget | None:
        """Returns the first budget that ε of the counts is above; None if none."""
        given = (budget for budget in budgets if budget is not None)
        return next((one for one in given if self._exceed(counts, one)), None)

    def _exceed(self, counts: Counts, budget: LedgerBudget) -> bool:
        """Whether ε of the counts is above the budget.

        Most calls cost microseconds: ε is composed only if no earlier check covers the
        counts.
        """
        within = self._within.get(budget, {})
        if all(count <= within.get(key, 0) for key, count in counts.items()):
            return False
        for ahead in _AHEAD:
            wide = {
                # Rounds are not added to a mechanism that is one event for all rounds.
                key: count + (ahead if key[2].composes_by_round else 0)
                for key, count in counts.items()
            }
            total = self.total(wide, budget.delta, budget.accountant)
            if total.epsilon <= budget.epsilon:
                self._within[budget] = wide
                return False
        return True
