"""Checks that the fields of a user-level plan fit each other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tfl_research.privacy.accounting import events
from tfl_research.privacy.accounting.composition import EpsilonCurve
from tfl_research.privacy.mechanisms.catalogue.registry import MECHANISMS
from tfl_research.privacy.mechanisms.catalogue.run_context import RunShape

if TYPE_CHECKING:
    from tfl_research.privacy.plans.user_level import UserLevelPlan


def check_plan(plan: UserLevelPlan) -> None:
    """Checks that event and grid are those of the mechanism, the noise and cohorts.

    Raises:
      ValueError: the fields do not fit each other.
    """
    if not (plan.l2_norm_clip > 0 and math.isfinite(plan.l2_norm_clip)):
        raise ValueError(f"l2_norm_clip must be above 0, got {plan.l2_norm_clip}")
    name = plan.mechanism.NAME
    if name not in MECHANISMS or MECHANISMS.get(name) is not type(plan.mechanism):
        raise ValueError(
            f"{type(plan.mechanism).__name__} is not registered as a mechanism "
            f"named {name!r}: decorate the class with @privacy.register_mechanism"
        )
    shape = RunShape(
        plan.amplification,
        plan.rounds,
        plan.expected_cohort_size,
        lambda: plan.grid.dimension,
    )
    event = plan.mechanism.event(plan.noise_multiplier, shape)
    if event != plan.event:
        raise ValueError(
            f"the event of {plan.mechanism} with noise multiplier "
            f"{plan.noise_multiplier} is {event}, got {plan.event}"
        )
    if plan.distributed != plan.mechanism.distributed_plan(
        plan.noise_multiplier, shape
    ):
        raise ValueError(
            f"distributed is not the plan of {plan.mechanism} with noise "
            f"multiplier {plan.noise_multiplier}: {plan.distributed}"
        )
    events.check_registered(plan.event)
    events.check_delta(plan.delta)
    events.check_accountant(plan.event, plan.accountant)
    if events.plugin_of(plan.event) is not None:
        # Only users' events are checked here; tests check the toolkit's events.
        events.check_readable(plan.event)
        EpsilonCurve(plan.event, plan.delta, plan.accountant).up_to(2)
