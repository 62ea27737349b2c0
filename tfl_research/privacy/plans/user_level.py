"""The plan of a run with user-level differential privacy, without TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional, Union

from tfl_research.errors import SettingError
from tfl_research.privacy.accounting.composition import (
    accountant_of,
)
from tfl_research.privacy.accounting.distributed_plan import DistributedPlan
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.sampler_rest import Draws, RunSize
from tfl_research.privacy.mechanisms.catalogue.calibration import checked_accountant
from tfl_research.privacy.mechanisms.catalogue.registry import MECHANISMS
from tfl_research.privacy.mechanisms.catalogue.run_context import (
    Dimension,
    MechanismContext,
    RunShape,
)
from tfl_research.privacy.mechanisms.catalogue.specification import (
    MechanismSettings,
)
from tfl_research.privacy.plans import plan as plan_module
from tfl_research.privacy.plans.checks import check_settings
from tfl_research.privacy.plans.user_level_checks import check_plan
from tfl_research.privacy.plans.user_level_values import (
    calibrated_noise_multiplier,
    check_first_round,
    checked_delta,
    checked_releases,
    unknown_dimension,
)
from tfl_research.sampling import Amplification

if TYPE_CHECKING:
    import tensorflow_federated as tff


@dataclasses.dataclass(frozen=True)
class UserLevelPlan:
    """The plan of a run: mechanism, clip, noise, sampling, δ, accountant and event.

    Make a plan with `create`. The event must be the mechanism's event for this noise
    and these cohorts, so that the noise that is charged is the noise that `build` adds.

    Attributes:
      mechanism: the mechanism with its parameters.
      l2_norm_clip: largest l2 norm of an update.
      noise_multiplier: the noise multiplier of the event.
      amplification: the amplification of the run's sampler.
      expected_cohort_size: the denominator of the mean.
      rounds: number of planned rounds.
      event: the event that is charged for each round.
      delta: target δ.
      accountant: "pld" or "rdp".
      budget_epsilon: ε that no round may exceed, or None.
      distributed: grid and noise shares of a distributed mechanism, or None.
      planned_releases: releases in addition to the rounds, and how many of each.

    Raises:
      ValueError: the fields do not fit each other.

    Example:
      >>> from tfl_research import privacy, sampling
      >>> sampler = sampling.Poisson(range(1000), 50, seed=1)
      >>> plan = privacy.UserLevelPlan.create(
      ...     "gaussian",
      ...     l2_norm_clip=0.5,
      ...     amplification=sampler.amplification,
      ...     rounds=100,
      ...     target_epsilon=8,
      ... )
      >>> plan.noise_multiplier  # The least for which 100 rounds have ε of at most 8.
      0.6...
      >>> mechanism = plan.build(privacy.MechanismContext(noise_seed=2**40 + 1))
      >>> mechanism.plan is plan
      True
    """

    mechanism: MechanismSettings
    l2_norm_clip: float
    noise_multiplier: float
    amplification: Amplification
    expected_cohort_size: float
    rounds: int
    event: Event
    delta: float
    accountant: str
    budget_epsilon: Optional[float] = None
    distributed: Optional[DistributedPlan] = None
    planned_releases: tuple[tuple[Event, int], ...] = ()

    def __post_init__(self) -> None:
        check_plan(self)

    @classmethod
    def create(
        cls,
        mechanism: Union[str, MechanismSettings],
        *,
        l2_norm_clip: float,
        amplification: Amplification,
        rounds: int,
        noise_multiplier: Optional[float] = None,
        target_epsilon: Optional[float] = None,
        delta: Optional[float] = None,
        accountant: str = "auto",
        budget_epsilon: Optional[float] = None,
        expected_cohort_size: Optional[float] = None,
        model_dimension: Optional[Dimension] = None,
        planned_releases: Sequence[tuple[Event, int]] = (),
    ) -> UserLevelPlan:
        """Makes a plan with this noise, or with the least noise for a target ε.

        A large δ gives a warning.

        Args:
          mechanism: settings of a mechanism, or its name.
          l2_norm_clip: largest l2 norm of an update, above 0.
          amplification: the amplification of the run's sampler.
          rounds: planned, at least 1.
          noise_multiplier: z of the event, at least 0; None with `target_epsilon`.
          target_epsilon: ε of all rounds; the plan gets the least noise for this ε.
          delta: target δ; `default_delta` of the population when None.
          accountant: "pld", "rdp", or "auto" for the tightest that applies.
          budget_epsilon: ε that no round may exceed, or None.
          expected_cohort_size: the denominator of the mean; the cohort size of
            `amplification` when None.
          model_dimension: returns the number of scalars in an update; needed if the
            mechanism's noise depends on this number.
          planned_releases: releases that are charged in addition to the rounds: an
            event, and how often it is released. `target_epsilon` covers them.

        Raises:
          SettingError: a value is out of range, two values do not fit each other, no
            noise meets the target, or the first round exceeds the budget.
        """
        mechanism = MECHANISMS.resolve(mechanism)
        check_settings(
            "",
            l2_norm_clip=l2_norm_clip,
            rounds=rounds,
            noise_multiplier=noise_multiplier,
            target_epsilon=target_epsilon,
            delta=delta,
            budget_epsilon=budget_epsilon,
        )
        delta = checked_delta(delta, amplification.population)
        size = expected_cohort_size
        shape = RunShape(
            amplification,
            int(rounds),
            float(amplification.cohort_size if size is None else size),
            model_dimension or unknown_dimension,
        )
        mechanism.check_shape(shape)
        releases: tuple[tuple[Event, int], ...] = ()
        if planned_releases:
            unit_noise = mechanism.checked_event(1.0, shape)
            releases = checked_releases(planned_releases, unit_noise)
        if noise_multiplier is None:
            noise_multiplier = calibrated_noise_multiplier(
                mechanism,
                float(target_epsilon or 0),
                shape,
                delta,
                accountant,
                releases,
            )
        noise_multiplier = float(noise_multiplier)
        event = mechanism.checked_event(noise_multiplier, shape)
        checked_accountant(accountant, event)
        charged = [(event, shape.rounds), *releases]
        resolved = accountant_of(accountant, charged, delta)
        mechanism.check_noise(noise_multiplier, shape)
        try:
            made = cls(
                mechanism,
                float(l2_norm_clip),
                noise_multiplier,
                amplification,
                shape.expected_cohort_size,
                shape.rounds,
                event,
                delta,
                resolved,
                None if budget_epsilon is None else float(budget_epsilon),
                mechanism.distributed_plan(noise_multiplier, shape),
                releases,
            )
        except SettingError:
            raise
        except ValueError as error:
            raise mechanism.refused_mechanism(str(error)) from error
        check_first_round(made.budget_epsilon, event, delta, resolved)
        return made

    @property
    def plugin(self) -> Optional[str]:
        """The module that registered the mechanism; None for the toolkit's own.

        `privacy.probe_noise` tests the noise of a plugin before the first round.
        """
        return MECHANISMS.origin(self.mechanism.NAME)

    @property
    def grid(self) -> DistributedPlan:
        """Grid and noise shares of a distributed mechanism.

        Raises:
          ValueError: the mechanism has no grid.
        """
        if self.distributed is None:
            raise ValueError(
                f"{self.mechanism.NAME} has no grid of noise shares; only distributed "
                "mechanisms have a grid"
            )
        return self.distributed

    def build(self, context: MechanismContext) -> Mechanism:
        """Builds the aggregator that adds this plan's noise; imports TensorFlow.

        Args:
          context: values on which the aggregator depends in addition to the plan.

        Raises:
          SettingError: a rule is given with a mechanism that noises a sum, or the
            aggregator of a user's mechanism takes no weights.
          ValueError: the mechanism's aggregator refuses a value.
        """
        if context.rule is not None and not self.mechanism.noised_at_clients:
            raise self.mechanism.refused_mechanism(
                "adds noise to a sum, which no other rule can replace; leave the rule "
                "out, or give --mechanism=local_gaussian"
            )
        import tensorflow_federated as tff

        from tfl_research.privacy.mechanisms.planned import PlannedAggregator

        built = self.mechanism.aggregator(self, context)
        if not isinstance(built, tff.aggregators.WeightedAggregationFactory):
            raise self.mechanism.refused_mechanism(
                f"its aggregator is a {type(built).__name__}; expected a "
                "tff.aggregators.WeightedAggregationFactory, whose create takes the "
                "types of updates and weights"
            )
        return Mechanism(self, PlannedAggregator(built, self))

    def record(self) -> dict[str, Any]:
        """Returns JSON values that must not change between two starts of a run."""
        return {
            "unit": self.event.unit,
            "mechanism": self.mechanism.record(),
            "l2_norm_clip": self.l2_norm_clip,
            "noise_multiplier": self.noise_multiplier,
            "expected_cohort_size": self.expected_cohort_size,
            "sampling": dataclasses.asdict(self.amplification),
            "delta": self.delta,
            "accountant": self.accountant,
            "event": self.event.to_dict(),
        }

    def draws(self, size: RunSize) -> Draws:
        """Bounds the number of random numbers in the noise of a run of this size."""
        return self.mechanism.draws(self, size)

    def check_measured(self, metrics: Mapping[str, Any]) -> None:
        """Compares the aggregator's measurements with the plan's noise."""
        measured = plan_module.measured_scalars(metrics.get("aggregator", {}))
        plan_module.check_declared(
            f"--mechanism={self.mechanism.NAME}",
            self.mechanism.declared_noise(self, measured),
            measured,
        )

    def statement_notes(
        self, weights: str, before_clip: str = "", divided: Optional[str] = None
    ) -> list[str]:
        """Returns sentences for a privacy statement about steps outside the event.

        Args:
          weights: words for the weights of clients.
          before_clip: words for the steps before the clip.
          divided: words for the aggregation of the noised updates; by default words for
            the mechanism's denominator.
        """
        clip = self.mechanism.clip_words(self.l2_norm_clip) + before_clip
        if divided is None:
            divided = self.mechanism.denominator_words(self.expected_cohort_size)
        notes = [
            self.mechanism.sentence(),
            f"Clipping and weights: {clip}; {weights}; {divided}.",
        ]
        if self.distributed is not None:
            notes += self.distributed.description()
        return notes


@dataclasses.dataclass(frozen=True)
class Mechanism:
    """An aggregator with the plan of its noise; made by `UserLevelPlan.build`.

    Attributes:
      plan: the privacy plan.
      aggregator: clips, weighs, sums and noises; takes client weights in [0, 1].
    """

    plan: UserLevelPlan
    aggregator: tff.aggregators.WeightedAggregationFactory
