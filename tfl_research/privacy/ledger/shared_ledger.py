"""A ledger that several runs over the same clients share, and its total ε.

Runs may be at work at the same time: the file is locked for each line, not for a
run. What cannot be found: a tail that was cut off before any run that saw it is
resumed or verified, and a file that was rewritten with new hashes throughout.
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

# A budget is checked for so many rounds ahead at once, where they all fit.
_AHEAD = (64, 8, 0)


class BudgetExceededError(ValueError):
    """A round was not recorded, because all runs together would exceed the budget."""


class SharedLedger(ChainFile):
    """A shared ledger, open for one run.

    `record` and `charge` return only when the round is on disk (fsync). Write here
    before the run's own ledger: then a shared ledger that has fewer rounds of a run
    than the run's own has lost lines. Not for use by several threads.

    Attributes:
      path: the file.
      run: id of the run that rounds are recorded for.
      population: the clients that the run samples from.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        run: str,
        population: Population,
        recorded: Sequence[Event] = (),
    ) -> None:
        """Opens the ledger, creating it when there is none, and verifies all of it.

        Args:
          path: the file.
          run: from `identity.run_id`.
          population: of the clients that can be sampled.
          recorded: the events in the run's own ledger, which must be here too.

        Raises:
          ValueError: a damaged line (named); a ledger of another population; rounds
            of `recorded` that are not here; a file that cannot be opened or locked.
        """
        if not identity.is_hex(run, identity.RUN_DIGITS):
            raise ValueError(
                f"run must be {identity.RUN_DIGITS} hexadecimal digits, got {run!r}"
            )
        self.run, self.population = run, population
        super().__init__(HashChain(path))
        self._rounds = SharedRounds(self._chain)
        # Rounds that were found to be within a budget, by what was asked.
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
        there, here = self._rounds.population, self.population
        if there is not None and there != here:
            raise ValueError(
                f"{self.path} is about another population (of {there.clients}, "
                f"fingerprint {there.fingerprint[:12]}; this run has {here.clients}, "
                f"{here.fingerprint[:12]}): what is spent on one does not add up with "
                "the other; give each population its own ledger"
            )

    def _check_recorded(self, recorded: Sequence[Event]) -> None:
        here = self._rounds.runs.get(self.run, [])
        if len(here) < len(recorded):
            raise ValueError(
                f"{self.path} has {len(here)} rounds of this run ({self.run}), whose "
                f"own ledger has {len(recorded)}: lines were lost, so ε would be "
                "understated; restore it from a copy"
            )
        for number, (one, other) in enumerate(zip(here, recorded), start=1):
            if one != other:
                raise ValueError(
                    f"{self.path} has round {number} of this run ({self.run}) as "
                    f"{one}, the run's own ledger has {other}; restore it from a copy"
                )

    @property
    def spent(self) -> tuple[RunSpent, ...]:
        """What each run has spent, in the order of their first rounds; as last read."""
        return tuple(
            RunSpent(run, tuple(events)) for run, events in self._rounds.runs.items()
        )

    def __len__(self) -> int:
        """Number of rounds of all runs; as last read."""
        return len(self._chain)

    def check_fits(self, event: Event) -> None:
        """Checks that the run's rounds can be composed with those that are here.

        Raises:
          ValueError: another neighbouring relation or unit of privacy.
        """
        for run, events in self._rounds.runs.items():
            for held in events[-1:]:
                for name, there, here in (
                    (
                        "neighbouring_relation",
                        held.neighbouring_relation,
                        event.neighbouring_relation,
                    ),
                    ("unit", held.unit, event.unit),
                ):
                    if there != here:
                        raise ValueError(
                            f"{self.path} has run {run} with {name} {there!r}, this "
                            f"run has {here!r}: no ε covers both; use another ledger, "
                            "or the same sampler and mechanism as that run"
                        )

    def epsilon_after(
        self, rounds: int, event: Event, delta: float, accountant: str | None = None
    ) -> float:
        """ε of all runs' rounds, once this run has done so many.

        Reads what other runs have added first. Rounds of this run that are in the
        ledger count even where they are more than `rounds`.

        Args:
          rounds: of this run, 0 or more.
          event: what those of its rounds do that are not in the ledger.
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

        Composes only where a state that was found to be within the budget does not
        cover the rounds already, so that most calls cost microseconds.

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
        asked = delta, accountant, budget_epsilon
        within = self._within.get(asked, {})
        if all(count <= within.get(key, 0) for key, count in counts.items()):
            return False
        for ahead in _AHEAD:
            wide = {
                # A mechanism over all rounds may be defined for so many only.
                (run, one): count + (ahead if one.composes_by_round else 0)
                for (run, one), count in counts.items()
            }
            if _epsilon(wide, delta, accountant) <= budget_epsilon:
                self._within[asked] = wide
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
        """Puts a round of this run on disk; free when it is there already.

        Raises:
          ValueError: the round is there with another event, or a round before it is
            missing, or it cannot be composed with the others' (`check_fits`).
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
        """`record`, unless all runs together would then exceed the budget.

        Other runs cannot record anything between the check and the line.

        Raises:
          BudgetExceededError: they would, because other runs recorded rounds since
            `would_exceed` was asked; nothing is written.
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
            here = self._rounds.runs.get(self.run, [])
            where = f"{self.path}, run {self.run},"
            if ledger.is_recorded(where, here, round_number, event):
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
    # Composing is all that needs the accountants, which take long to import.
    from tfl_research.privacy.accounting.composition import composed_epsilon

    groups = [(event, count) for (_, event), count in counts.items()]
    return composed_epsilon(groups, delta, accountant)
