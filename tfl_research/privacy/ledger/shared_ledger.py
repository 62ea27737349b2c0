"""A ledger that several runs over the same clients share, and its total ε.

Runs may write at the same time: the file is locked for each line, not for a run. Two
kinds of damage go unnoticed: last lines that are cut off before any run that saw them
is resumed or verified, and a file that is rewritten with new hashes throughout.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.ledger import identity, ledger
from tfl_research.privacy.ledger.hash_chain import ChainFile, HashChain
from tfl_research.privacy.ledger.identity import Population
from tfl_research.privacy.ledger.shared_rounds import Counts, RunSpent, SharedRounds

# A check of the budget covers so many further rounds, if they all fit.
_AHEAD = (64, 8, 0)


class BudgetExceededError(ValueError):
    """The round was not recorded: all runs together would exceed the budget."""


class SharedLedger(ChainFile):
    """A shared ledger, open for one run.

    `record` and `charge` return only when the round is on disk (fsync). Write to this
    ledger before the run's own ledger: then a shared ledger with fewer rounds of a run
    than the run's own ledger has lost lines. Not for use by several threads.

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
        recorded: Sequence[Event] = (),
    ) -> None:
        """Opens the ledger and verifies all lines; creates a missing file.

        Args:
          path: the file.
          run: from `identity.run_id`.
          population: of the clients that can be sampled.
          recorded: the events in the run's own ledger, which this must have too.

        Raises:
          ValueError: a damaged line (named); a ledger of another population; rounds
            of `recorded` that are missing; a file that cannot be opened or locked.
        """
        if not identity.is_hex(run, identity.RUN_DIGITS):
            raise ValueError(
                f"run must be {identity.RUN_DIGITS} hexadecimal digits, got {run!r}"
            )
        self.run, self.population = run, population
        super().__init__(HashChain(path))
        self._rounds = SharedRounds(self._chain)
        # Rounds that keep within a budget, by (δ, accountant, budget).
        self._within: dict[tuple[float, str | None, float], Counts] = {}
        try:
            with self._chain.locked():
                self._rounds.read(repair=True)
            self._check_population()
            self._check_recorded(recorded)
        except BaseException:
            self.close()
            raise

    def _check_population(self) -> None:
        recorded, own = self._rounds.population, self.population
        if recorded is not None and recorded != own:
            raise ValueError(
                f"{self.path} is about another population (of {recorded.clients}, "
                f"fingerprint {recorded.fingerprint[:12]}; this run has {own.clients}, "
                f"{own.fingerprint[:12]}): what is spent on one does not add up with "
                "the other; give each population its own ledger"
            )

    def _check_recorded(self, recorded: Sequence[Event]) -> None:
        shared = self._rounds.runs.get(self.run, [])
        if len(shared) < len(recorded):
            raise ValueError(
                f"{self.path} has {len(shared)} rounds of this run ({self.run}), whose "
                f"own ledger has {len(recorded)}: lines were lost, so ε would be "
                "understated; restore it from a copy"
            )
        for number, (shared_event, event) in enumerate(zip(shared, recorded), start=1):
            if shared_event != event:
                raise ValueError(
                    f"{self.path} has round {number} of this run ({self.run}) as "
                    f"{shared_event}, the run's own ledger has {event}; restore it "
                    "from a copy"
                )

    @property
    def spent(self) -> tuple[RunSpent, ...]:
        """What each run has spent, by first round; of the lines read so far."""
        return tuple(
            RunSpent(run, tuple(events)) for run, events in self._rounds.runs.items()
        )

    def __len__(self) -> int:
        """Number of rounds of all runs; of the lines read so far."""
        return len(self._chain)

    def check_fits(self, event: Event) -> None:
        """Checks that the run's rounds can be composed with the recorded rounds.

        Raises:
          ValueError: another neighbouring relation or unit of privacy.
        """
        for run, events in self._rounds.runs.items():
            for recorded in events[-1:]:
                for name, recorded_value, value in (
                    (
                        "neighbouring_relation",
                        recorded.neighbouring_relation,
                        event.neighbouring_relation,
                    ),
                    ("unit", recorded.unit, event.unit),
                ):
                    if recorded_value != value:
                        raise ValueError(
                            f"{self.path} has run {run} with {name} "
                            f"{recorded_value!r}, this run has {value!r}: no ε covers "
                            "both; use another ledger, or the same sampler and "
                            "mechanism as that run"
                        )

    def epsilon_after(
        self, rounds: int, event: Event, delta: float, accountant: str | None = None
    ) -> float:
        """ε of all runs' rounds, after so many rounds of this run.

        First reads the lines that other runs have added. All recorded rounds of this
        run count, even if they are more than `rounds`.

        Args:
          rounds: of this run, 0 or more.
          event: of this run's rounds that the ledger does not have yet.
          delta: target δ.
          accountant: "pld", "rdp", or None for the tightest that applies to all.

        Raises:
          ValueError: damage, or rounds that cannot be composed.
        """
        self._rounds.read(repair=False)
        return _epsilon(self._with(rounds, event), delta, accountant)

    def would_exceed(
        self,
        rounds: int,
        event: Event,
        delta: float,
        accountant: str | None,
        budget_epsilon: float,
    ) -> bool:
        """Whether `epsilon_after` would be above the budget.

        Most calls cost microseconds: ε is composed only if no earlier check covers the
        rounds.

        Raises:
          ValueError: damage, or see `check_fits`.
        """
        self._rounds.read(repair=False)
        self.check_fits(event)
        return self._exceeds(rounds, event, delta, accountant, budget_epsilon)

    def _exceeds(
        self,
        rounds: int,
        event: Event,
        delta: float,
        accountant: str | None,
        budget_epsilon: float,
    ) -> bool:
        counts = self._with(rounds, event)
        budget = delta, accountant, budget_epsilon
        within = self._within.get(budget, {})
        if all(count <= within.get(key, 0) for key, count in counts.items()):
            return False
        for ahead in _AHEAD:
            wide = {
                # A mechanism over all rounds has no event for further rounds.
                (run, done): count + (ahead if done.composes_by_round else 0)
                for (run, done), count in counts.items()
            }
            if _epsilon(wide, delta, accountant) <= budget_epsilon:
                self._within[budget] = wide
                return False
        return True

    def _with(self, rounds: int, event: Event) -> Counts:
        if rounds < 0:
            raise ValueError(f"rounds must be at least 0, got {rounds}")
        counts = dict(self._rounds.counts)
        more = rounds - len(self._rounds.runs.get(self.run, []))
        if more > 0:
            counts[self.run, event] = counts.get((self.run, event), 0) + more
        return counts

    def record(self, round_number: int, event: Event) -> None:
        """Puts a round of this run on disk, unless it is recorded already.

        Raises:
          ValueError: the round is recorded with another event, or an earlier round is
            missing, or the round does not compose with other runs' (`check_fits`).
        """
        self._record(round_number, event, None)

    def charge(
        self,
        round_number: int,
        event: Event,
        delta: float,
        accountant: str | None,
        budget_epsilon: float,
    ) -> None:
        """Records the round, unless all runs together would then exceed the budget.

        Other runs cannot record a round between the check and the write.

        Raises:
          BudgetExceededError: all runs would exceed the budget, because other runs
            recorded rounds since `would_exceed` was called; nothing is written.
          ValueError: see `record`.
        """
        self._record(round_number, event, (delta, accountant, budget_epsilon))

    def _record(
        self,
        round_number: int,
        event: Event,
        budget: tuple[float, str | None, float] | None,
    ) -> None:
        with self._chain.locked():
            self._rounds.read(repair=True)
            self._check_population()
            recorded = self._rounds.runs.get(self.run, [])
            where = f"{self.path}, run {self.run},"
            if ledger.is_recorded(where, recorded, round_number, event):
                return
            self.check_fits(event)
            if budget is not None and self._exceeds(round_number, event, *budget):
                raise BudgetExceededError(
                    f"{self.path}: round {round_number} would put ε of all runs above "
                    f"the budget of {budget[2]:g}"
                )
            self._chain.append(
                {
                    "run": self.run,
                    "population": dataclasses.asdict(self.population),
                    "round": round_number,
                    **ledger.event_fields(event),
                }
            )
            self._rounds.add(self.run, self.population, event)


def _epsilon(counts: Counts, delta: float, accountant: str | None) -> float:
    # The accountants are slow to import, and only composition needs them.
    from tfl_research.privacy.accounting.composition import composed_epsilon

    groups = [(event, count) for (_, event), count in counts.items()]
    return composed_epsilon(groups, delta, accountant)
