"""The least noise that keeps ε at a target."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tfl_research.privacy.accounting.composition import (
    EpsilonCurve,
    composed_epsilon,
)
from tfl_research.privacy.accounting.events import Event, check_delta
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent

# Noise multipliers are searched on multiples of this.
RESOLUTION = 1e-3
_LARGEST = 1e5


def calibrate_noise_multiplier(
    *,
    target_epsilon: float,
    sampling_rate: float,
    rounds: int,
    delta: float,
    accountant: str = "pld",
) -> float:
    """The smallest noise multiplier for (ε, δ) after `rounds` Poisson-sampled rounds.

    Args:
      target_epsilon: ε not to be exceeded after the last round, above 0.
      sampling_rate: probability that a client takes part in a round, in (0, 1].
      rounds: number of rounds, at least 1.
      delta: target δ, in (0, 1).
      accountant: "pld" or "rdp".

    Returns:
      The smallest multiple z of 0.001 with ε(z) <= target_epsilon, so that
      ε(z - 0.001) > target_epsilon (unless z is 0.001 itself).

    Raises:
      ValueError: an argument outside its range, or a target that no noise
        multiplier up to 100000 meets.
    """
    event = GaussianEvent.poisson(1.0, sampling_rate)
    return calibrate_event(event, target_epsilon, rounds, delta, accountant)


def calibrate_event(
    event: Event,
    target_epsilon: float,
    rounds: int,
    delta: float,
    accountant: str | None = None,
    spent: Sequence[tuple[Event, int]] = (),
) -> float:
    """The smallest noise multiplier with which the rounds of an event keep to (ε, δ).

    Args:
      event: the event of a round; its noise multiplier is ignored.
      target_epsilon: ε not to be exceeded after the last round, above 0.
      rounds: number of rounds, at least 1.
      delta: target δ, in (0, 1).
      accountant: see `accounting.resolve_accountant`.
      spent: what is charged in addition to the rounds, see `composed_epsilon`.

    Raises:
      ValueError: see `calibrate_noise_multiplier`.
    """
    check_delta(delta)
    if not (target_epsilon > 0 and math.isfinite(target_epsilon)):
        raise ValueError(
            f"target_epsilon must be above 0 and finite, got {target_epsilon}"
        )
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")

    def private_enough(thousandths: int) -> bool:
        noisy = event.with_noise(thousandths / 1000)
        if spent:
            epsilon = composed_epsilon([(noisy, rounds), *spent], delta, accountant)
        else:
            epsilon = EpsilonCurve(noisy, delta, accountant).at(rounds)
        return epsilon <= target_epsilon

    if spent and composed_epsilon(spent, delta, accountant) >= target_epsilon:
        raise ValueError(
            "what is charged in addition to the rounds already has ε = "
            f"{composed_epsilon(spent, delta, accountant):.4g} at δ = {delta}, so no "
            f"noise gives ε = {target_epsilon} in all: raise the target, or release "
            "less"
        )

    low, high = 0, 1000
    while not private_enough(high):
        low, high = high, 2 * high
        if high > _LARGEST / RESOLUTION:
            raise ValueError(
                f"no noise multiplier up to {_LARGEST:g} gives ε = {target_epsilon} at "
                f"δ = {delta} after {rounds} rounds of a {event.kind} mechanism: "
                "raise the target, or take fewer rounds or smaller cohorts"
            )
    while low == 0 and high > 1:
        half = high // 2
        low, high = (0, half) if private_enough(half) else (half, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if private_enough(middle) else (middle, high)
    return high / 1000
