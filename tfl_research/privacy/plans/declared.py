"""The plan of a process that the toolkit did not build, with the user's event."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Optional

from tfl_research.errors import SettingError
from tfl_research.privacy.accounting import events
from tfl_research.privacy.accounting.composition import EpsilonCurve, accountant_of
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.sampler_rest import Draws, RunSize
from tfl_research.privacy.mechanisms.catalogue.calibration import checked_accountant
from tfl_research.privacy.plans.user_level_values import checked_delta
from tfl_research.sampling import Amplification


@dataclasses.dataclass(frozen=True)
class DeclaredPlan:
    """The plan of a process whose user declares what each execution releases.

    No round measures the noise, so the noise is not compared with the declaration.

    Attributes:
      event: each execution of a round is charged as this event.
      delta: target δ.
      accountant: "pld" or "rdp".
      rounds: number of planned rounds.
      repeatable: whether a repeated round has the same noise on the same sums. If so,
        the round is charged once; otherwise every execution is charged.
      budget_epsilon: ε that no round may exceed, or None.
    """

    event: Event
    delta: float
    accountant: str
    rounds: int
    repeatable: bool
    budget_epsilon: Optional[float] = None

    @classmethod
    def create(
        cls,
        event: Event,
        amplification: Amplification,
        *,
        rounds: int,
        repeatable: bool,
        delta: Optional[float] = None,
        accountant: str = "auto",
        budget_epsilon: Optional[float] = None,
    ) -> DeclaredPlan:
        """Makes a plan, after checking that the event covers the run's cohorts.

        Args:
          event: the event of one execution of a round.
          amplification: the amplification of the run's sampler.
          rounds: planned, at least 1.
          repeatable: see the class.
          delta: target δ; `default_delta` of the population when None.
          accountant: "pld", "rdp", or "auto" for the tightest that applies.
          budget_epsilon: ε that no round may exceed, or None.

        Raises:
          SettingError: the event is not registered or does not cover the cohorts, or
            the accountant or the budget does not fit the event.
        """
        try:
            events.check_registered(event)
            events.check_readable(event)
            check_covers(event, amplification, rounds)
        except ValueError as error:
            raise SettingError(f"event: {error}") from error
        delta = checked_delta(delta, amplification.population)
        checked_accountant(accountant, event)
        resolved = accountant_of(accountant, [(event, rounds)], delta)
        if budget_epsilon is not None:
            first = EpsilonCurve(event, delta, resolved).at(1)
            if first > budget_epsilon:
                raise SettingError(
                    f"--budget_epsilon={budget_epsilon:g}: the first round alone costs "
                    f"ε = {first:.4g} at δ = {delta:g}; raise it, or add noise"
                )
        return cls(event, delta, resolved, rounds, repeatable, budget_epsilon)

    @property
    def planned_releases(self) -> tuple[tuple[Event, int], ...]:
        """An empty tuple: there are no releases in addition to the rounds."""
        return ()

    def record(self) -> dict[str, Any]:
        """Returns JSON values that must not change between two starts of a run."""
        return {
            "declared": True,
            "repeatable": self.repeatable,
            "delta": self.delta,
            "accountant": self.accountant,
            "event": self.event.to_dict(),
        }

    def draws(self, size: RunSize) -> Draws:
        """Counts no draws, since nobody knows how the process makes its noise."""
        del size
        return Draws()

    def check_measured(self, metrics: Mapping[str, Any]) -> None:
        """Checks nothing, since no round measures the noise."""


def check_covers(event: Event, amplification: Amplification, rounds: int) -> None:
    """Checks that an event may be charged for cohorts of a sampler.

    An event that assumes sampling needs cohorts of the same kind, drawn at most at the
    event's rate, under the same neighbouring relation. An event that does not assume
    sampling may also be under zero-out or replace-one. Under these, the same clients
    take part in both populations. Events of correlated noise need clients that take
    part at most as often as the events say.

    Args:
      event: the event of a round.
      amplification: the amplification of the sampler.
      rounds: number of planned rounds.

    Raises:
      ValueError: the event does not cover the cohorts; the message says what the event
        assumes, and what the cohorts are.
    """
    if event.is_search or event.unit != "client":
        raise ValueError(
            f"a {event.kind!r} event is not about the clients of one round; give an "
            "event whose unit is a client"
        )
    fields = event.to_dict()
    sampling = str(fields.get("sampling", "none"))
    if "sampling" not in fields and event.rate is not None and event.rate < 1:
        sampling = "cyclic_poisson"
    relations = {amplification.neighbouring_relation}
    if sampling == "none":
        relations |= {"zero_out", "replace_one"}
    elif sampling != amplification.kind:
        raise ValueError(
            f"it assumes {sampling} sampling, but the cohorts are of kind "
            f"{amplification.kind}; give cohorts of kind {sampling}, or an event of "
            f"kind {amplification.kind}"
        )
    if event.neighbouring_relation not in relations:
        raise ValueError(
            f"it is about neighbours by {event.neighbouring_relation}, but the "
            "cohorts are drawn so that neighbours differ by "
            f"{amplification.neighbouring_relation}; give an event under "
            f"{' or '.join(sorted(relations))}"
        )
    if sampling != "none":
        rate = event.rate
        if rate is not None and rate < amplification.sampling_rate * (1 - 1e-9):
            raise ValueError(
                f"it assumes a sampling rate of {rate:g}, but a client takes part "
                f"with probability {amplification.sampling_rate:g}; give an event of "
                "at least that rate"
            )
        if sampling == "fixed_size" and event.num_clients != amplification.population:
            raise ValueError(
                f"it assumes {event.num_clients} clients, but there are "
                f"{amplification.population}; give an event of that population"
            )
    for name in ("min_separation", "rounds_per_epoch"):
        if int(fields.get(name, 1)) > int(dataclasses.asdict(amplification)[name]):
            raise ValueError(
                f"it assumes a {name} of {fields[name]}, but the cohorts have "
                f"{dataclasses.asdict(amplification)[name]}; give cohorts that keep "
                "clients' rounds apart, or an event for these cohorts"
            )
    if not event.composes_by_round and int(fields.get("rounds", rounds)) < rounds:
        raise ValueError(
            f"it is of {fields['rounds']} rounds, but {rounds} are planned; give an "
            f"event of {rounds} rounds"
        )
