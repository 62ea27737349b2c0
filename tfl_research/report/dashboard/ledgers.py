"""The shared ledgers of a folder: the spent and the remaining part of each budget."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Optional

from tfl_research.errors import UserError
from tfl_research.privacy.accounting.budget import default_delta
from tfl_research.privacy.ledger import spending
from tfl_research.privacy.ledger.spending import Spending
from tfl_research.report import words
from tfl_research.report.dashboard.watched import Signature, signature_of

# δ for a ledger over an unknown number of clients.
_DELTA = 1e-5
# Files of runs with the ending of ledgers that are not shared ledgers.
_OWN = frozenset({"ledger.jsonl", "measurements.jsonl"})


@dataclasses.dataclass(frozen=True)
class LedgerView:
    """A shared ledger.

    Attributes:
      name: the file's path, relative to the watched folder if it is in this folder.
      problem: why the ledger cannot be read; empty if it can.
      spent: ε of all runs together, rounded up.
      delta: δ at which ε is given.
      budget: ε of the budget; empty without a budget.
      left: the rest of the budget, rounded down; empty without a budget.
      share: the spent share of the budget, at most 1; None without a budget.
      runs: (run, rounds, ε of the run alone) of each run.
    """

    name: str
    problem: str = ""
    spent: str = ""
    delta: str = ""
    budget: str = ""
    left: str = ""
    share: Optional[float] = None
    runs: tuple[tuple[str, int, str], ...] = ()


def _left(budget: float, spent: float) -> str:
    left = budget - spent
    if left < 0:
        return f"{words.bound(-left)} above the budget"
    return f"{math.floor(left * 1000) / 1000:g} left"


def _view(name: str, ledger: Spending, names: Mapping[str, str]) -> LedgerView:
    # The accountants are slow to import, and only composition needs them.
    from tfl_research.privacy.accounting import totals

    budget, clients = ledger.budget, ledger.clients
    delta = _DELTA if clients is None else default_delta(clients)
    accountant = None
    if budget is not None:
        delta, accountant = budget.delta, budget.accountant

    def epsilon(groups: list) -> float:
        return totals.composed_total(groups, delta, accountant).epsilon

    spent = epsilon(ledger.groups) if ledger.groups else 0.0
    runs = tuple(
        (
            names.get(run.run, run.run),
            len(run.events),
            words.bound(epsilon(run.groups)) if run.groups else "0",
        )
        for run in ledger.runs
    )
    view = LedgerView(name, "", words.bound(spent), words.bound(delta), runs=runs)
    if budget is None:
        return view
    return dataclasses.replace(
        view,
        budget=words.bound(budget.epsilon),
        left=_left(budget.epsilon, spent),
        share=min(1.0, spent / budget.epsilon),
    )


class Ledgers:
    """The shared ledgers of a folder; changed ledgers are read again."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._kept: dict[pathlib.Path, tuple[Signature, LedgerView]] = {}

    def paths(self, runs: Mapping[str, pathlib.Path]) -> list[pathlib.Path]:
        """Lists possible shared ledgers: files in the runs' folders and folders above.

        Ledgers outside of the watched folder are never read, even if a run's settings
        name such a ledger.
        """
        folders = {self._folder}
        for path in runs.values():
            folders.update(
                parent
                for parent in path.parents
                if self._folder in (parent, *parent.parents)
            )
        return sorted(
            file
            for folder in folders
            for file in folder.glob("*.jsonl")
            if file.name not in _OWN and file.is_file() and not file.is_symlink()
        )

    def views(self, runs: Mapping[str, pathlib.Path]) -> list[LedgerView]:
        """Returns all shared ledgers.

        Args:
          runs: the run folders by name.
        """
        names = {}
        for name, path in runs.items():
            try:
                names[(path / "run_id").read_text(encoding="utf-8").strip()] = name
            except (OSError, ValueError):
                # A run without a ledger has no id.
                continue
        views = [self._read(path, names) for path in self.paths(runs)]
        return [view for view in views if view is not None]

    def signature(self, runs: Mapping[str, pathlib.Path]) -> Signature:
        """Returns the signature of all ledgers' files."""
        return signature_of(self.paths(runs))

    def _read(
        self, path: pathlib.Path, names: Mapping[str, str]
    ) -> Optional[LedgerView]:
        signature = signature_of([path])
        if path in self._kept and self._kept[path][0] == signature:
            return self._kept[path][1]
        name = path.relative_to(self._folder).as_posix()
        try:
            ledger = spending.read_ledger(path)
            if not ledger.shared:
                return None
            view = _view(name, ledger, names)
        except (ValueError, OSError, UserError) as error:
            view = LedgerView(name, problem=str(error))
        self._kept[path] = signature, view
        return view
