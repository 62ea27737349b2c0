"""The noise of a process that the toolkit did not build, as its user declares it."""

from __future__ import annotations

import dataclasses
from typing import Any, Optional, Union

from tfl_research.errors import SettingError
from tfl_research.privacy import MECHANISMS, DeclaredPlan, MechanismSettings, RunShape
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.plans.user_level_values import unknown_dimension
from tfl_research.sampling import Sampler

_HOW = "give event=..., or noise_multiplier=... with the mechanism"


@dataclasses.dataclass(frozen=True)
class ProcessPrivacy:
    """Declares the noise of a TFF process of your own, and how rounds are charged.

    Attributes:
      noise_multiplier: standard deviation of the noise over the l2 norm clip. The event
        of a round is that of `mechanism` with this noise and the run's cohorts.
      mechanism: a registered mechanism, by its name or its settings, whose event and
        samplers fit the process.
      event: an event of `tfl.privacy`, instead of `noise_multiplier` and `mechanism`.
      repeatable: whether the noise is a function of the state and of seeds, so that a
        repeated round has the same noise and is charged once. Other noise is charged at
        every execution, also if a round is repeated after a kill. By default, the
        operations in the process' computation decide.
      delta: δ of the guarantee; a default by the number of clients when None.
      accountant: "pld", "rdp" or "auto".
      budget_epsilon: the run stops before the round that would exceed this ε.
      covers: names, or beginnings of names, of metrics in metrics.csv and
        measurements.jsonl that the event covers, because the process computes them from
        noised values. All other metrics are exact, not covered by ε.

    Raises:
      SettingError: neither or both of event and noise multiplier are given, or a value
        is out of range.

    Example:
      >>> tfl.ProcessPrivacy(noise_multiplier=1.0).noise_multiplier
      1.0
      >>> event = tfl.privacy.GaussianEvent.poisson(1.0, sampling_rate=0.1)
      >>> tfl.ProcessPrivacy(event=event, covers=["result"]).covers
      ('result',)
    """

    noise_multiplier: Optional[float] = None
    mechanism: Union[str, MechanismSettings] = "gaussian"
    event: Optional[Event] = None
    repeatable: Optional[bool] = None
    delta: Optional[float] = None
    accountant: str = "auto"
    budget_epsilon: Optional[float] = None
    covers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        chosen = MECHANISMS.resolve(self.mechanism)
        object.__setattr__(self, "mechanism", chosen)
        if isinstance(self.covers, str):
            raise SettingError(
                f"covers must be a list of names, got the text {self.covers!r}; give "
                f"covers=[{self.covers!r}]"
            )
        object.__setattr__(self, "covers", tuple(map(str, self.covers)))
        if self.event is not None and not isinstance(self.event, Event):
            raise SettingError(
                f"event must be a tfl.privacy.Event, got {type(self.event).__name__}"
            )
        if (self.event is None) == (self.noise_multiplier is None):
            both = "is missing" if self.event is None else "is given beside an event"
            raise SettingError(f"noise_multiplier {both}; {_HOW}")
        if self.noise_multiplier is not None and not self.noise_multiplier >= 0:
            raise SettingError(
                f"noise_multiplier={self.noise_multiplier}: must be at least 0"
            )
        if self.delta is not None and not 0 < self.delta < 1:
            raise SettingError(f"delta={self.delta}: must be above 0 and below 1")
        if self.budget_epsilon is not None and not self.budget_epsilon > 0:
            raise SettingError(f"budget_epsilon={self.budget_epsilon}: must be above 0")

    def plan(
        self, sampler: str, cohorts: Sampler, rounds: int, *, repeatable: bool
    ) -> DeclaredPlan:
        """Makes the plan of a run.

        Args:
          sampler: name of the sampler.
          cohorts: the cohorts of the run.
          rounds: number of planned rounds.
          repeatable: whether a repeated round is charged once.

        Raises:
          SettingError: the event or the mechanism does not cover the sampler's cohorts;
            see also `DeclaredPlan.create`.
        """
        event = self.event
        if event is None:
            event = self._event(sampler, cohorts, rounds)
        return DeclaredPlan.create(
            event,
            cohorts.amplification,
            rounds=rounds,
            repeatable=repeatable,
            delta=self.delta,
            accountant=self.accountant,
            budget_epsilon=self.budget_epsilon,
        )

    def _event(self, sampler: str, cohorts: Sampler, rounds: int) -> Event:
        mechanism: Any = self.mechanism
        mechanism.check_sampler(sampler)
        shape = RunShape(
            cohorts.amplification,
            rounds,
            cohorts.expected_cohort_size,
            unknown_dimension,
        )
        mechanism.check_shape(shape)
        event: Event = mechanism.checked_event(
            float(self.noise_multiplier or 0.0), shape
        )
        return event
