"""Finds the least noise with which a distributed mechanism keeps ε at a target."""

from __future__ import annotations

import math
from typing import Any

from tfl_research.privacy.accounting import events
from tfl_research.privacy.accounting.distributed_plan import (
    DistributedPlan,
    plan_distributed,
)

# Noise multipliers are searched on multiples of a thousandth.
_RESOLUTION = 1000
_LARGEST_MULTIPLIER = 1e5


def calibrate_distributed(
    mechanism: str,
    *,
    target_epsilon: float,
    rounds: int,
    delta: float,
    population: int,
    sampling: str = "none",
    neighbouring_relation: str = "zero_out",
    **settings: Any,
) -> DistributedPlan:
    """Finds the plan with the least noise that keeps ε at a target.

    The noise multiplier is a multiple of 0.001. Grid and noise depend on each other, so
    each noise multiplier needs a new plan.

    Args:
      mechanism: "discrete_gaussian" or "skellam".
      target_epsilon: largest allowed ε after the last round, above 0.
      rounds: number of rounds, at least 1.
      delta: target δ, in (0, 1).
      population: number of clients.
      sampling: see `DistributedPlan.event`.
      neighbouring_relation: see `DistributedPlan.event`.
      **settings: arguments of `plan_distributed`, without the noise multiplier.

    Raises:
      ValueError: an argument is outside its range, no noise multiplier meets the
        target, or the bits are too few for the noise.
    """
    events.check_delta(delta)
    if not (target_epsilon > 0 and math.isfinite(target_epsilon)):
        raise ValueError(
            f"target_epsilon must be above 0 and finite, got {target_epsilon}"
        )
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")

    def plan(thousandths: int) -> DistributedPlan:
        return plan_distributed(
            mechanism, noise_multiplier=thousandths / _RESOLUTION, **settings
        )

    def private_enough(thousandths: int) -> bool:
        try:
            event = plan(thousandths).event(
                population=population,
                sampling=sampling,
                neighbouring_relation=neighbouring_relation,
            )
        except ValueError:
            # A small noise multiplier can give too little noise for the discrete
            # Gaussian. `plan(high)` below raises every other error.
            if thousandths >= _RESOLUTION:
                raise
            return False
        return event.epsilon(rounds, delta, "rdp") <= target_epsilon

    low, high = 0, _RESOLUTION
    while not private_enough(high):
        low, high = high, 2 * high
        if high > _LARGEST_MULTIPLIER * _RESOLUTION:
            raise ValueError(
                f"no noise multiplier up to {_LARGEST_MULTIPLIER:g} gives ε = "
                f"{target_epsilon} at δ = {delta} after {rounds} rounds: raise the "
                "target, or take fewer rounds"
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if private_enough(middle) else (middle, high)
    return plan(high)
