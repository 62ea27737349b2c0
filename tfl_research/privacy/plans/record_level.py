"""The plan of a run with record-level differential privacy, without TensorFlow."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional

from tfl_research.data import ClientData, PoissonBatching
from tfl_research.errors import SettingError
from tfl_research.privacy.accounting import events
from tfl_research.privacy.accounting.composition import (
    EpsilonCurve,
    accountant_of,
    resolve_accountant,
)
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.events.record_event import RecordEvent
from tfl_research.privacy.accounting.record_calibration import (
    calibrate_record_noise,
    check_deltas,
    default_record_deltas,
)
from tfl_research.privacy.accounting.sampler_rest import Draws, RunSize
from tfl_research.privacy.plans import plan as plan_module
from tfl_research.privacy.plans.checks import check_settings
from tfl_research.privacy.plans.user_level_values import checked_releases

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_federated as tff

    from tfl_research.privacy.mechanisms.record_training import PlannedTraining


@dataclasses.dataclass(frozen=True)
class RecordLevelPlan:
    """The plan of DP-SGD inside clients: clip, noise, local steps, δ and event.

    Make a plan with `create`. `client_work` adds the noise, and `RecordAccount` charges
    the event.

    Attributes:
      event: the event that is charged for each round, at every client.
      l2_norm_clip: largest l2 norm of a record's (or microbatch's) gradient.
      deltas: δ_k of each client, in the order of the event's clients.
      accountant: "pld" or "rdp".
      rounds: number of planned rounds.
      budget_epsilon: ε of a client that no round may exceed, or None.
      planned_releases: releases in addition to the rounds, and how many of each.

    Raises:
      ValueError: the fields do not fit each other.

    Example:
      >>> from tfl_research import data, privacy
      >>> steps = data.PoissonBatching(10, 32.0)
      >>> task = tfl.tasks.get("heart").with_batching(steps)
      >>> plan = privacy.RecordLevelPlan.create(
      ...     task.train, l2_norm_clip=1.0, rounds=50, target_epsilon=4
      ... )
      >>> plan.noise_multiplier  # The least for which no silo's ε is above 4.
      6.5...
      >>> import tensorflow_federated as tff
      >>> work = plan.client_work(optimizer=tff.learning.optimizers.build_sgdm(0.1))
    """

    event: RecordEvent
    l2_norm_clip: float
    deltas: tuple[float, ...]
    accountant: str
    rounds: int
    budget_epsilon: Optional[float] = None
    planned_releases: tuple[tuple[Event, int], ...] = ()

    def __post_init__(self) -> None:
        if not (self.l2_norm_clip > 0 and math.isfinite(self.l2_norm_clip)):
            raise ValueError(f"l2_norm_clip must be above 0, got {self.l2_norm_clip}")
        check_deltas(self.event, self.deltas)
        for delta in self.deltas:
            events.check_delta(delta)
        events.check_accountant(self.event, self.accountant)

    @classmethod
    def create(
        cls,
        clients: ClientData,
        *,
        l2_norm_clip: float,
        rounds: int,
        noise_multiplier: Optional[float] = None,
        target_epsilon: Optional[float] = None,
        delta: Optional[float] = None,
        accountant: str = "auto",
        budget_epsilon: Optional[float] = None,
        planned_releases: Sequence[tuple[Event, int]] = (),
    ) -> RecordLevelPlan:
        """Makes a plan with this noise, or with the least noise for a target ε.

        Every client's data are read once, to count the records. A large δ gives a
        warning.

        Args:
          clients: client data with local steps that are drawn by Poisson sampling.
          l2_norm_clip: largest l2 norm of a gradient, above 0.
          rounds: planned, at least 1.
          noise_multiplier: standard deviation of the noise over the clip, at least 0;
            None with `target_epsilon`.
          target_epsilon: largest ε of a client's records after all rounds; the plan
            gets the least noise for this ε.
          delta: δ of every client; (its number of records)^-1.1, at most 0.001, when
            None.
          accountant: "pld", "rdp" or "auto" for the tightest.
          budget_epsilon: ε of a client that no round may exceed, or None.
          planned_releases: releases that are charged in addition to the rounds, as
            pairs of an event and a count. Each is charged to every client's records.
            `target_epsilon` covers the releases.

        Raises:
          SettingError: a value is out of range, no noise meets the target, or the first
            round exceeds the budget.
          ValueError: the local steps are not drawn by Poisson sampling.
        """
        check_settings(
            "record_",
            l2_norm_clip=l2_norm_clip,
            rounds=rounds,
            noise_multiplier=noise_multiplier,
            target_epsilon=target_epsilon,
            delta=delta,
            budget_epsilon=budget_epsilon,
        )
        event = RecordEvent.of(
            1.0 if noise_multiplier is None else noise_multiplier, clients
        )
        deltas = default_record_deltas(event)
        if delta is not None:
            deltas = (float(delta),) * len(deltas)
        _warn_of_deltas(event, deltas)
        try:
            resolve_accountant(accountant, event)
        except ValueError as error:
            raise SettingError(f"--record_accountant={accountant}: {error}") from error
        releases = checked_releases(planned_releases, event)
        if target_epsilon is not None:
            try:
                noise = calibrate_record_noise(
                    event, float(target_epsilon), rounds, deltas, accountant, releases
                )
            except ValueError as error:
                raise SettingError(
                    f"--record_target_epsilon={target_epsilon:g}: {error}"
                ) from error
            event = dataclasses.replace(event, noise_multiplier=noise)
        # "auto" depends on δ; the smallest δ decides.
        charged = [(event, int(rounds)), *releases]
        resolved = accountant_of(accountant, charged, min(deltas))
        if budget_epsilon is not None:
            _check_budget(event, deltas, resolved, budget_epsilon)
        return cls(
            event,
            float(l2_norm_clip),
            deltas,
            resolved,
            int(rounds),
            None if budget_epsilon is None else float(budget_epsilon),
            releases,
        )

    @property
    def noise_multiplier(self) -> float:
        """Standard deviation of a local step's noise over the clip."""
        return self.event.noise_multiplier

    @property
    def delta(self) -> float:
        """The largest δ of a client, which holds for every record."""
        return max(self.deltas)

    @property
    def batching(self) -> PoissonBatching:
        """The Poisson sampling of the local steps."""
        return PoissonBatching(
            self.event.local_steps,
            self.event.expected_batch_size,
            self.event.microbatch_size,
        )

    def client_work(
        self,
        *,
        optimizer: tff.learning.optimizers.Optimizer,
        learning_rate_schedule: Optional[Callable[[tf.Tensor], tf.Tensor]] = None,
        report_metrics: bool = False,
    ) -> PlannedTraining:
        """Builds DP-SGD with this plan's clip, noise and steps; imports TensorFlow.

        Args:
          optimizer: takes the noised gradients.
          learning_rate_schedule: see `clients.RecordLevelTraining`.
          report_metrics: see `clients.RecordLevelTraining`.
        """
        from tfl_research.privacy.mechanisms.record_training import PlannedTraining

        return PlannedTraining(
            optimizer,
            self.batching,
            self.l2_norm_clip,
            self.noise_multiplier,
            learning_rate_schedule,
            report_metrics,
            plan=self,
        )

    def record(self) -> dict[str, Any]:
        """Returns JSON values that must not change between two starts of a run."""
        return {
            "unit": self.event.unit,
            "l2_norm_clip": self.l2_norm_clip,
            "noise_multiplier": self.noise_multiplier,
            "deltas": {
                name: delta for (name, _), delta in zip(self.event.clients, self.deltas)
            },
            "accountant": self.accountant,
            "event": self.event.to_dict(),
        }

    def draws(self, size: RunSize) -> Draws:
        """Counts a normal number for each weight in each local step."""
        steps = size.rounds * size.clients * self.event.local_steps
        return Draws(normal=steps * size.dimension)

    def check_measured(self, metrics: Mapping[str, Any]) -> None:
        """Compares the noise that the clients report with the plan's noise.

        A round without clients adds no noise, releases nothing, and is not compared.
        """
        measured = plan_module.measured_scalars(metrics)
        if measured.get("clients") == 0:
            return
        expected = self.noise_multiplier * self.l2_norm_clip
        plan_module.check_declared(
            f"--record_noise_multiplier={self.noise_multiplier:g}",
            {"client_noise_stddev": expected},
            measured,
        )


def _warn_of_deltas(event: RecordEvent, deltas: tuple[float, ...]) -> None:
    for (name, records), delta in zip(event.clients, deltas):
        if records and delta * records >= 1:
            warnings.warn(
                f"delta = {delta:g} is at least 1/records of client {name!r} "
                f"({records} records): publishing one random record in full would "
                "satisfy such a guarantee; use a smaller --record_delta",
                stacklevel=3,
            )
            return


def _check_budget(
    event: RecordEvent, deltas: tuple[float, ...], accountant: str, budget: float
) -> None:
    first_epsilon = max(
        EpsilonCurve(event.of_client(index), delta, accountant).at(1)
        for index, delta in enumerate(deltas)
    )
    if first_epsilon > budget:
        raise SettingError(
            f"--record_budget_epsilon={budget:g}: the first round alone costs a "
            f"client's records ε = {first_epsilon:.4g}; raise it, or add noise with "
            "--record_noise_multiplier"
        )
