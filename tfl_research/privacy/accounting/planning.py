"""Computes the cost of planned rounds, and the number of rounds within a budget."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from tfl_research.privacy.accounting.events import Event, check_delta
from tfl_research.privacy.accounting.search import boundary
from tfl_research.privacy.accounting.totals import composed_total

# Pairs of an event and its number of rounds, see `totals.composed_total`.
Groups = Sequence[tuple[Event, int]]

# The search for the rounds within a budget ends here.
MOST_ROUNDS = 10_000_000
# Noise multipliers are multiples of a thousandth, as in `calibration`.
_PARTS = 1000
_LARGEST_NOISE = 100_000


@dataclasses.dataclass(frozen=True)
class Cost:
    """ε of planned rounds at one δ.

    Attributes:
      before: ε of the earlier rounds.
      alone: ε of the planned rounds.
      together: ε of all these rounds, composed.
    """

    before: float
    alone: float
    together: float


def cost(
    event: Event,
    rounds: int,
    delta: float,
    accountant: str | None = None,
    spent: Groups = (),
) -> Cost:
    """Computes the cost of planned rounds.

    Args:
      event: the event of each planned round.
      rounds: planned, at least 0.
      delta: target δ.
      accountant: "pld", "rdp", or None for the tightest that applies.
      spent: earlier rounds on the same population.

    Raises:
      ValueError: an argument is out of its range, or the rounds cannot be composed.
    """
    _check(delta, rounds)
    planned = [(event, rounds)]
    return Cost(
        _epsilon(spent, delta, accountant),
        _epsilon(planned, delta, accountant),
        _epsilon([*spent, *planned], delta, accountant),
    )


def rounds_within(
    event: Event,
    budget_epsilon: float,
    delta: float,
    accountant: str | None = None,
    spent: Groups = (),
) -> int:
    """Finds the number of planned rounds that keep ε of all rounds within a budget.

    See `cost` for the arguments.

    Returns:
      The largest number of rounds with ε <= budget_epsilon, at most `MOST_ROUNDS`; 0
      if no round fits.

    Raises:
      ValueError: an argument is out of its range.
    """
    _check(delta, 0)
    _check_epsilon("budget_epsilon", budget_epsilon)

    def epsilon(rounds: int) -> float:
        return _epsilon([*spent, (event, rounds)], delta, accountant)

    inside, outside = 0, 1
    if spent and epsilon(0) > budget_epsilon:
        return 0
    while True:
        value = epsilon(outside)
        if value > budget_epsilon:
            return boundary(epsilon, budget_epsilon, inside, outside)
        inside = outside
        if inside >= MOST_ROUNDS:
            return MOST_ROUNDS
        # ε grows about as the square root of the number of rounds.
        growth = (budget_epsilon / value) ** 2 if value > 0 else 64.0
        outside = min(MOST_ROUNDS, math.ceil(inside * min(max(growth, 2.0), 64.0)))


def noise_for(
    event_with: Callable[[float], Event],
    target_epsilon: float,
    rounds: int,
    delta: float,
    accountant: str | None = None,
    spent: Groups = (),
) -> float:
    """Finds the least noise for planned rounds that keeps ε of all rounds at a target.

    Args:
      event_with: returns the event of a planned round for a noise multiplier, such as
        `event.with_noise`. If it raises ValueError for a multiplier below 1, the search
        takes this as too little noise.
      target_epsilon: largest allowed ε of all rounds.
      rounds: planned, at least 1.
      delta: target δ.
      accountant: see `cost`.
      spent: see `cost`.

    Returns:
      The smallest multiple of 0.001 with ε <= target_epsilon, see
      `calibration.calibrate_event`.

    Raises:
      ValueError: an argument is out of its range, the event has no noise multiplier, or
        no noise multiplier up to 100000 meets the target.
    """
    _check(delta, rounds)
    _check_epsilon("target_epsilon", target_epsilon)
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")

    def epsilon(thousandths: int) -> float:
        try:
            noisy = event_with(thousandths / _PARTS)
        except ValueError:
            # Small noise can give shares of noise that are too small for any bound.
            if thousandths >= _PARTS:
                raise
            return math.inf
        return _epsilon([*spent, (noisy, rounds)], delta, accountant)

    largest = _LARGEST_NOISE * _PARTS
    number, outside, inside = _PARTS, 0, largest
    while True:
        value = epsilon(number)
        # ε falls in inverse proportion to the noise, or faster. Steps down are small,
        # because ε takes long to compute for little noise.
        ratio = value / target_epsilon
        if ratio <= 1:
            inside = number
            if outside or number == 1:
                break
            number = max(1, math.floor(number * min(max(math.sqrt(ratio), 0.5), 0.9)))
        elif number == largest:
            raise ValueError(
                f"no noise multiplier up to {_LARGEST_NOISE:g} keeps {rounds} more "
                f"rounds within ε = {target_epsilon:g} at δ = {delta:g} (without them "
                f"it is {_epsilon(spent, delta, accountant):.4g}): raise the "
                "target, or plan fewer rounds or smaller cohorts"
            )
        else:
            outside = number
            if inside < largest:
                break
            number = min(largest, math.ceil(number * min(max(ratio, 1.1), 16.0)))
    return boundary(epsilon, target_epsilon, inside, outside) / _PARTS


def _epsilon(groups: Groups, delta: float, accountant: str | None) -> float:
    return composed_total(groups, delta, accountant).epsilon


def _check(delta: float, rounds: int) -> None:
    check_delta(delta)
    if rounds < 0:
        raise ValueError(f"rounds must be at least 0, got {rounds}")


def _check_epsilon(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be above 0 and finite, got {value}")
