"""The base class of mechanisms of user-level privacy.

This module does not import TensorFlow. Mechanisms import TensorFlow when they build
their aggregator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Optional

from tfl_research import sampling
from tfl_research.errors import SettingError
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.sampler_rest import Draws, RunSize
from tfl_research.privacy.mechanisms.catalogue import calibration
from tfl_research.privacy.mechanisms.catalogue.run_context import (
    MechanismContext,
    RunShape,
)
from tfl_research.settings import NamedSettings

if TYPE_CHECKING:
    import tensorflow_federated as tff

    from tfl_research.privacy.accounting.distributed_plan import DistributedPlan
    from tfl_research.privacy.plans.user_level import UserLevelPlan

# Where noise is added: by the server to the sum; by clients in shares, before a secure
# sum; or by each client to its own update, before sending the update.
SERVER, SECURE_SUM, CLIENT = "server", "secure sum", "client"
NOISED_AT = (SERVER, SECURE_SUM, CLIENT)


@dataclasses.dataclass(frozen=True)
class MechanismSettings(NamedSettings):
    """Base class of user-level mechanisms: name, parameters, event and aggregator.

    Subclasses are frozen dataclasses; their fields are the mechanism's parameters. A
    new mechanism is one registered class (`register_mechanism`): flags, compatibility,
    plans, statements and audits follow from the class.

    Attributes:
      SAMPLERS: names of the samplers with cohorts that the event covers.
      WEIGHTINGS: client weightings that keep the sensitivity: "uniform", "capped" or
        both. Example counts have no bound, so they are never allowed.
      NOISED_AT: one of `NOISED_AT` of this module.
      DEVICES_REFUSAL: why simulated devices break the account, half a sentence that
        follows the mechanism's name; None if devices keep the account.

    Example:
      An experiment chooses the registered mechanism by its name, and a plan builds it:

      >>> import dataclasses
      >>> @tfl.privacy.register_mechanism
      ... @dataclasses.dataclass(frozen=True)
      ... class Mine(tfl.privacy.MechanismSettings):
      ...     NAME = "mine"
      ...     SUMMARY = "Gaussian noise, for cohorts that are drawn by Poisson sampling"
      ...     SAMPLERS = ("poisson",)
      ...
      ...     def event(self, noise_multiplier, shape):
      ...         amplification = shape.amplification
      ...         return tfl.privacy.GaussianEvent.of(noise_multiplier, amplification)
      ...
      ...     def aggregator(self, plan, context):
      ...         return tfl.privacy.gaussian_aggregator(
      ...             l2_norm_clip=plan.l2_norm_clip,
      ...             noise_multiplier=plan.noise_multiplier,
      ...             expected_cohort_size=plan.expected_cohort_size,
      ...             noise_seed=context.noise_seed,
      ...         )
      >>> privacy = tfl.UserLevelPrivacy("mine", noise_multiplier=1)
      >>> tfl.Experiment("mnist", privacy=privacy).check()
      >>> from tfl_research import sampling
      >>> plan = tfl.privacy.UserLevelPlan.create(
      ...     "mine",
      ...     l2_norm_clip=0.5,
      ...     amplification=sampling.Poisson(range(1000), 50, seed=1).amplification,
      ...     rounds=10,
      ...     noise_multiplier=1,
      ... )
      >>> plan.build(tfl.privacy.MechanismContext(noise_seed=7)).plan is plan
      True
    """

    TITLE: ClassVar[str] = "Mechanism"
    SAMPLERS: ClassVar[tuple[str, ...]] = ()
    WEIGHTINGS: ClassVar[tuple[str, ...]] = ("uniform", "capped")
    NOISED_AT: ClassVar[str] = SERVER
    DEVICES_REFUSAL: ClassVar[Optional[str]] = None

    # Every subclass defines these two.

    def event(self, noise_multiplier: float, shape: RunShape) -> Event:
        """Returns the event of each round of a run.

        Raises:
          ValueError: the event does not cover the sampler or the parameters.
        """
        raise NotImplementedError(type(self).__name__)

    def aggregator(
        self, plan: UserLevelPlan, context: MechanismContext
    ) -> tff.aggregators.WeightedAggregationFactory:
        """Builds the aggregator that clips, weighs, sums and noises by the plan.

        The aggregator must measure `noise_stddev`, float32 `[]` or `[1]`: the standard
        deviation of the noise in each coordinate of the round's release, taken from the
        tensor that scaled the noise. It measures an adaptive clip as `clip_norm`.
        """
        raise NotImplementedError(type(self).__name__)

    # A subclass may redefine these.

    def declared_noise(
        self, plan: UserLevelPlan, measured: Mapping[str, float]
    ) -> dict[str, float]:
        """Returns the values that a round's measurements must have, by name.

        Args:
          plan: the plan of the run.
          measured: scalars that the aggregator measured, by name.

        Returns:
          By default only `noise_stddev`: z x clip / expected cohort size.
        """
        del measured
        unit = plan.noise_multiplier * plan.l2_norm_clip
        return {"noise_stddev": unit / plan.expected_cohort_size}

    def draws(self, plan: UserLevelPlan, size: RunSize) -> Draws:
        """Bounds the number of random numbers from which a run's noise is made.

        By default, this is a normal number for each scalar of an update in each round,
        and one more for a noised count. If the clients add the noise, each client draws
        these numbers. A mechanism that draws more or other numbers overrides this.
        """
        del plan
        drawers = 1 if self.NOISED_AT == SERVER else size.clients
        return Draws(normal=size.rounds * drawers * (size.dimension + 1))

    def distributed_plan(
        self, noise_multiplier: float, shape: RunShape
    ) -> Optional[DistributedPlan]:
        """Returns grid and noise shares of a distributed mechanism; None by default."""
        del noise_multiplier, shape
        return None

    def calibrate(
        self, target_epsilon: float, shape: RunShape, delta: float, accountant: str
    ) -> float:
        """Finds the least noise multiplier for ε after all rounds, in steps of 0.001.

        Args:
          target_epsilon: largest allowed ε after the last round.
          shape: the shape of the run.
          delta: target δ.
          accountant: "pld", "rdp", or "auto" for the tightest that applies.

        Raises:
          SettingError: the event does not cover the run, or the accountant does not
            apply to the event.
          ValueError: no noise meets the target.
        """
        event = self.checked_event(1.0, shape)
        return calibration.noise_for_event(
            event, target_epsilon, shape.rounds, delta, accountant
        )

    def checked_event(self, noise_multiplier: float, shape: RunShape) -> Event:
        """Returns `event`, with errors that name the mechanism's setting.

        Raises:
          SettingError: the event does not cover the sampler or the parameters, is no
            `Event`, or has more noise than the plan.
        """
        try:
            event = self.event(noise_multiplier, shape)
        except SettingError:
            raise
        except ValueError as error:
            raise self.refused_mechanism(str(error)) from error
        if not isinstance(event, Event):
            raise self.refused_mechanism(
                f"its event is a {type(event).__name__}; expected a privacy.Event"
            )
        if event.noise is not None and event.noise > noise_multiplier * (1 + 1e-9):
            raise self.refused_mechanism(
                f"its event has noise of {event.noise:g} times the clip, but the plan "
                f"has {noise_multiplier:g}: less would be charged than is released; "
                "give the event at most the noise multiplier that `event` is given"
            )
        return event

    def check_shape(self, shape: RunShape) -> None:
        """Checks that the parameters fit the run's cohorts.

        Raises:
          SettingError: a parameter does not fit.
        """

    def check_noise(self, noise_multiplier: float, shape: RunShape) -> None:
        """Checks that the mechanism can give this noise.

        Raises:
          SettingError: the mechanism cannot give the noise.
        """

    def check_cohorts(self, sampler: str, weighting: str) -> None:
        """Checks that sampler and client weights keep the guarantee.

        Args:
          sampler: name of the sampler.
          weighting: "uniform", "capped" or "examples".

        Raises:
          SettingError: the weights have no bound, the mechanism does not take them, or
            the event does not cover the sampler.
        """
        if weighting == "examples":
            raise SettingError(
                "--client_weighting=examples: numbers of examples have no bound, "
                "which breaks the guarantee; give --client_weighting=uniform, or "
                "--mechanism=bounded_weight --client_weighting=capped with "
                "--weight_cap"
            )
        if weighting not in self.WEIGHTINGS:
            hint = f"--client_weighting={self.WEIGHTINGS[0]}"
            if "capped" not in self.WEIGHTINGS and self.NOISED_AT == SERVER:
                hint += ", or --mechanism=bounded_weight"
            raise self.refused_mechanism(
                f"does not take --client_weighting={weighting}; give {hint}"
            )
        self.check_sampler(sampler)

    def check_sampler(self, sampler: str) -> None:
        """Checks that the event covers the sampler's cohorts.

        A sampler of a user's own is covered if both `full` and `shuffled` are, which
        have no amplification under either relation.

        Raises:
          SettingError: the event does not cover the sampler.
        """
        needed: tuple[str, ...] = sampling.ACCOUNTED_LIKE
        if sampler not in sampling.OWN_SAMPLERS:
            needed = (sampler,)
        if not set(needed) <= set(self.SAMPLERS):
            raise self.refused_mechanism(
                f"its account does not cover --sampler={sampler}; give "
                f"--sampler={' or '.join(self.SAMPLERS)}"
            )

    def check_devices(self, devices: int) -> None:
        """Checks that the guarantee holds with simulated devices.

        Args:
          devices: number of devices.

        Raises:
          SettingError: devices break the guarantee.
        """
        if self.DEVICES_REFUSAL is not None:
            raise SettingError(
                f"--devices={devices}: {self.NAME} {self.DEVICES_REFUSAL}; give "
                "--mechanism=gaussian, or leave --devices out"
            )

    def clip_words(self, l2_norm_clip: float) -> str:
        """Describes the clip for a privacy statement."""
        return f"l2 norm clip {l2_norm_clip:g}"

    def denominator_words(self, expected_cohort_size: float) -> str:
        """Describes the divisor of the sum for a privacy statement."""
        return (
            f"the sum is divided by the expected cohort size, {expected_cohort_size:g}"
        )

    @property
    def noised_at_clients(self) -> bool:
        """Whether clients add the noise, so that the server only post-processes."""
        return self.NOISED_AT == CLIENT

    def sentence(self) -> str:
        """Returns name, summary and papers."""
        return f"Mechanism {self.NAME}: {self.title()}."

    def refused_mechanism(self, why: str) -> SettingError:
        """Returns the error for this mechanism: "--mechanism=tree: ..."."""
        return SettingError(f"--mechanism={self.NAME}: {why}")

    def record(self) -> dict[str, Any]:
        """Returns name and parameters as JSON values."""
        return {"name": self.NAME, **self.flat()}
