"""A ledger that several runs over the same clients share, and its total ε.

Runs may write at the same time, since the file is locked only for each line. Two kinds
of damage cannot be noticed. The last lines are cut off together with the head file,
before any run that saw these lines is resumed or verified. Or the whole file is
rewritten with new hashes.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.relations import Total
from tfl_research.privacy.ledger import identity
from tfl_research.privacy.ledger.chain_file import ChainFile
from tfl_research.privacy.ledger.hash_chain import HashChain
from tfl_research.privacy.ledger.identity import Population
from tfl_research.privacy.ledger.lines.budget import LedgerBudget
from tfl_research.privacy.ledger.lines.entries import (
    Entry,
    Release,
    Restart,
    Round,
    entry_fields,
)
from tfl_research.privacy.ledger.lines.run_record import RunRecord
from tfl_research.privacy.ledger.shared import shared_checks
from tfl_research.privacy.ledger.shared.shared_rounds import (
    Counts,
    RunSpent,
    SharedRounds,
)
from tfl_research.privacy.ledger.shared.shared_totals import SharedTotals


class BudgetExceededError(ValueError):
    """A line was not written, because all runs together would exceed a budget."""


class SharedLedger(ChainFile):
    """A shared ledger, open for one run.

    `record`, `charge`, `restart` and `release` return only when the line is on disk
    (fsync). Write to this ledger before the run's own ledger. Then a shared ledger with
    fewer lines of a run than the run's own ledger must have lost lines. A budget in the
    ledger binds every run. Only one thread may use the object.

    Attributes:
      path: the file.
      run: id of the run whose rounds are recorded.
      population: the clients that the run samples from.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        run: str,
        population: Population,
        recorded: Sequence[Entry] = (),
    ) -> None:
        """Opens the ledger and verifies all lines; creates a missing file.

        Args:
          path: the file.
          run: the run's id, from `identity.run_id`.
          population: the population of the clients that can be sampled.
          recorded: `Ledger.entries` of the run's own ledger; the shared ledger must
            have these entries too.

        Raises:
          PopulationError: the ledger is about another population.
          ValueError: a line is damaged (the message names it), an entry of `recorded`
            is missing, the end of the ledger is lost, or the file cannot be opened or
            locked.
        """
        identity.check_run(run)
        self.run, self.population = run, population
        super().__init__(HashChain(path))
        self._rounds = SharedRounds(self._chain)
        self._totals = SharedTotals()
        try:
            with self._chain.locked():
                self._rounds.read(repair=True)
            self._chain.check_head()
            self._check_population()
            shared_checks.check_recorded(
                (f"{self.path} has", f"of this run ({run})"), self.entries, recorded
            )
        except BaseException:
            self.close()
            raise

    def _check_population(self) -> None:
        recorded = self._rounds.population
        if recorded is not None:
            shared_checks.check_population(self.path, recorded, self.population)

    @property
    def _record(self) -> RunRecord:
        return self._rounds.runs.get(self.run) or RunRecord()

    @property
    def entries(self) -> Sequence[Entry]:
        """The entries of this run among the lines read so far."""
        return tuple(self._record.entries)

    @property
    def budget(self) -> LedgerBudget | None:
        """The last budget among the lines read so far."""
        return self._rounds.budget

    def budget_spent(self) -> tuple[LedgerBudget, float] | None:
        """Returns the ledger's budget, and ε of all lines read at the budget's δ."""
        budget = self.budget
        if budget is None:
            return None
        counts = self._rounds.counts
        total = self._totals.total(counts, budget.delta, budget.accountant)
        return budget, total.epsilon

    @property
    def spent(self) -> tuple[RunSpent, ...]:
        """The spending of each run in the lines read so far, in order."""
        return tuple(
            RunSpent(run, tuple(record.entries))
            for run, record in self._rounds.runs.items()
        )

    def __len__(self) -> int:
        """Counts the charged rounds of all runs in the lines read so far."""
        return sum(len(record.charged) for record in self._rounds.runs.values())

    def check_fits(self, event: Event) -> None:
        """Checks that a charge can be composed with what is recorded.

        Raises:
          ValueError: the event has another unit of privacy, or a neighbouring relation
            that no theorem connects with the recorded relations.
        """
        for run, _, recorded in self._rounds.counts:
            shared_checks.check_fits(f"{self.path} has run {run}", recorded, event)

    def total_after(
        self,
        rounds: int,
        event: Event,
        delta: float,
        accountant: str | None = None,
        further: Sequence[tuple[Event, int]] = (),
    ) -> Total:
        """Computes ε of all runs after `rounds` rounds of this run, and its relation.

        The lines that other runs have added are read first. All recorded rounds of this
        run count, even if they are more than `rounds`.

        Args:
          rounds: the number of rounds of this run, 0 or more.
          event: the event of this run's rounds that the ledger does not have yet.
          delta: target δ.
          accountant: "pld", "rdp", or None for the tightest that applies to all.
          further: releases that this run still plans.

        Raises:
          ValueError: the ledger is damaged, or the rounds cannot be composed.
        """
        self._rounds.read(repair=False)
        counts = self._rounds.counts_after(self.run, rounds, event)
        if further:
            planned = {
                (self.run, f"planned {number}", release): count
                for number, (release, count) in enumerate(further)
            }
            return self._totals.total({**counts, **planned}, delta, accountant)
        return self._totals.after_rounds(
            counts, (self.run, "", event), delta, accountant
        )

    def epsilon_after(
        self, rounds: int, event: Event, delta: float, accountant: str | None = None
    ) -> float:
        """Returns ε of `total_after`."""
        return self.total_after(rounds, event, delta, accountant).epsilon

    def would_exceed(
        self,
        rounds: int,
        event: Event,
        delta: float,
        accountant: str | None,
        budget_epsilon: float | None,
    ) -> bool:
        """Whether `epsilon_after` would be above the run's or the ledger's budget.

        Most calls cost microseconds: ε is composed only if no earlier check covers the
        rounds.

        Raises:
          ValueError: the ledger is damaged, or the rounds do not compose with the
            recorded rounds.
        """
        self._rounds.read(repair=False)
        self.check_fits(event)
        budget = LedgerBudget.of_run(delta, accountant, budget_epsilon)
        counts = self._rounds.counts_after(self.run, rounds, event)
        return self._exceeded(counts, budget) is not None

    def _exceeded(
        self, counts: Counts, budget: LedgerBudget | None
    ) -> LedgerBudget | None:
        """Returns the budget that would be exceeded, the run's or the ledger's."""
        return self._totals.exceeded(counts, (budget, self._rounds.budget))

    def _with_entry(self, entry: Round | Release) -> Counts:
        return self._rounds.with_more(self.run, self._record.tag(entry), entry.event)

    def record(self, round_number: int, event: Event) -> None:
        """Charges a round without a budget of the run; see `charge`."""
        self._charge(round_number, event, None)

    def charge(
        self,
        round_number: int,
        event: Event,
        delta: float,
        accountant: str | None,
        budget_epsilon: float,
    ) -> None:
        """Writes a round of this run to disk, unless it is recorded already.

        Other runs cannot record a round between the check of the budgets and the write.

        Raises:
          BudgetExceededError: all runs together would exceed the run's budget or the
            ledger's budget; nothing is written.
          ValueError: the round is recorded with another event, an earlier round is
            missing, or the round does not compose with other runs' rounds.
        """
        budget = LedgerBudget.of_run(delta, accountant, budget_epsilon)
        self._charge(round_number, event, budget)

    def _charge(
        self, round_number: int, event: Event, budget: LedgerBudget | None
    ) -> None:
        with self._chain.locked():
            record = self._current()
            self._put(record.next_round(self._where, round_number, event), budget)

    def release(
        self,
        name: str,
        round_number: int,
        event: Event,
        delta: float,
        accountant: str | None,
        budget_epsilon: float | None,
    ) -> None:
        """Writes a further release of this run to disk, unless it is recorded already.

        See `Ledger.release` and `charge`.

        Raises:
          BudgetExceededError: all runs together would exceed a budget.
          ValueError: the release is recorded with another event, the round is not
            recorded, or the release does not compose with what is recorded.
        """
        budget = LedgerBudget.of_run(delta, accountant, budget_epsilon)
        with self._chain.locked():
            record = self._current()
            entry = record.next_release(self._where, name, round_number, event)
            self._put(entry, budget)

    def release_would_exceed(
        self,
        name: str,
        round_number: int,
        event: Event,
        delta: float,
        accountant: str | None,
        budget_epsilon: float | None,
    ) -> bool:
        """Whether `release` would raise BudgetExceededError, given the lines so far."""
        self._rounds.read(repair=False)
        entry = self._record.next_release(self._where, name, round_number, event)
        if entry is None:
            return False
        budget = LedgerBudget.of_run(delta, accountant, budget_epsilon)
        return self._exceeded(self._with_entry(entry), budget) is not None

    def restart(self, after: int) -> None:
        """Writes a restart of this run to disk; see `Ledger.restart`."""
        with self._chain.locked():
            self._put(self._current().next_restart(self._where, after), None)

    @property
    def _where(self) -> str:
        return f"{self.path}, run {self.run},"

    def _current(self) -> RunRecord:
        """Returns the record of this run after all lines; hold the lock."""
        self._rounds.read(repair=True)
        self._check_population()
        return self._record

    def _put(self, entry: Entry | None, budget: LedgerBudget | None) -> None:
        if entry is None:
            return
        if not isinstance(entry, Restart):
            self.check_fits(entry.event)
            exceeded = self._exceeded(self._with_entry(entry), budget)
            if exceeded is not None:
                raise BudgetExceededError(
                    f"{self.path}: {_words(entry)} would put ε of all runs above the "
                    f"budget of {exceeded}"
                )
        self._chain.append(
            {
                "run": self.run,
                "population": dataclasses.asdict(self.population),
                **entry_fields(entry),
            }
        )
        self._rounds.add(self.run, self.population, entry)


def _words(entry: Round | Release) -> str:
    if isinstance(entry, Release):
        return f"{entry.release} after round {entry.round}"
    return f"round {entry.round}"
