"""Finds the least noise that keeps ε at a target."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from tfl_research.privacy.accounting.composition import (
    SMALL_DELTA,
    EpsilonCurve,
    composed_epsilon,
    resolve_accountant,
)
from tfl_research.privacy.accounting.events import Event, check_delta
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.accounting.losses.sampled_gaussian import SampledGaussianCurve
from tfl_research.privacy.accounting.search import boundary, least_from

# Noise multipliers are searched on multiples of this.
RESOLUTION = 1e-3
_LARGEST = 1e5
# Points of a coarse lattice, and the largest noise multiplier that it may guess.
_POINTS = 20_000
_LARGEST_GUESS = 1e4


def calibrate_noise_multiplier(
    *,
    target_epsilon: float,
    sampling_rate: float,
    rounds: int,
    delta: float,
    accountant: str = "pld",
) -> float:
    """Finds the smallest noise multiplier for (ε, δ) after Poisson-sampled rounds.

    Args:
      target_epsilon: largest allowed ε after the last round, above 0.
      sampling_rate: probability that a client takes part in a round, in (0, 1].
      rounds: number of rounds, at least 1.
      delta: target δ, in (0, 1).
      accountant: "pld" or "rdp".

    Returns:
      The smallest multiple z of 0.001 with ε(z) <= target_epsilon, so that
      ε(z - 0.001) > target_epsilon (unless z is 0.001 itself).

    Raises:
      ValueError: an argument is outside its range, or no noise multiplier up to 100000
        meets the target.
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
    """Finds the smallest noise multiplier with which an event's rounds keep (ε, δ).

    Args:
      event: the event of a round; its noise multiplier is ignored.
      target_epsilon: largest allowed ε after the last round, above 0.
      rounds: number of rounds, at least 1.
      delta: target δ, in (0, 1).
      accountant: see `accounting.resolve_accountant`.
      spent: pairs (event, count) that are charged in addition to the rounds, see
        `composed_epsilon`.

    Returns:
      The smallest multiple of 0.001 that meets the target.

    Raises:
      ValueError: an argument is outside its range, `spent` alone exceeds the target, or
        no noise multiplier up to 100000 meets the target.
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

    if not spent and _has_rough_values(event, rounds, delta, accountant):
        rough = _RoughValues(event, target_epsilon, rounds, delta)
        guess = rough.guess()
        if guess is not None:
            found = least_from(
                lambda n: not rough.exceeds(n) and private_enough(n),
                guess,
                round(_LARGEST / RESOLUTION),
            )
            if found is not None:
                return found / 1000
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


def _has_rough_values(
    event: Event, rounds: int, delta: float, accountant: str | None
) -> bool:
    """Whether ε of the rounds takes long, and a rough ε can be computed quickly."""
    if resolve_accountant(accountant, event) != "pld" or delta < SMALL_DELTA:
        return False
    # A user's event may compute ε in its own way.
    if not type(event).__module__.startswith("tfl_research."):
        return False
    unit = event.with_noise(1.0).as_gaussian_rounds(rounds)
    return unit is not None and unit[0].amplified


# A sweep calibrates one event for several targets.
@functools.lru_cache(maxsize=8)
def _rough_values(
    event: Event, rounds: int, delta: float
) -> dict[tuple[int, int], float]:
    """Returns a table of ε by (thousandths of noise, points), empty for a new event."""
    del event, rounds, delta
    return {}


class _RoughValues:
    """Computes ε of rounds that sampling amplifies roughly, on coarse lattices.

    Computing ε takes a tenth of a second on the accountant's lattice. On a coarse
    lattice it takes a few milliseconds, and three or more digits are the same.

    Args:
      event, target_epsilon, rounds, delta: see `calibrate_event`.
    """

    def __init__(
        self, event: Event, target_epsilon: float, rounds: int, delta: float
    ) -> None:
        self._event, self._target = event, target_epsilon
        self._rounds, self._delta = rounds, delta
        # ε by noise and points; the table also has values of earlier targets.
        self._known = _rough_values(event.with_noise(1.0), rounds, delta)

    def _epsilon(self, thousandths: int, points: int = _POINTS) -> float:
        key = thousandths, points
        if key not in self._known:
            self._known[key] = self._composed(thousandths, points)
        return self._known[key]

    def _composed(self, thousandths: int, points: int) -> float:
        noisy = self._event.with_noise(thousandths / 1000)
        equal = noisy.as_gaussian_rounds(self._rounds)
        if equal is None or not equal[0].amplified:
            return math.inf
        step, count = equal
        curve = SampledGaussianCurve(
            step.sensitivity_multiplier,
            step.sampling_rate,
            self._delta,
            step.neighbouring_relation,
            most_points=points,
        )
        return curve.epsilon(count)

    def guess(self) -> int | None:
        """Guesses the least noise for the target, in thousandths.

        The result is None if the guess would be far off, or if a coarse lattice gives
        no ε.
        """
        try:
            return self._guess()
        except ArithmeticError:
            return None

    def _guess(self) -> int | None:
        known = {n: e for (n, points), e in self._known.items() if points == _POINTS}
        inside = min((n for n, e in known.items() if e <= self._target), default=1000)
        while self._epsilon(inside) > self._target:
            inside *= 2
            if inside > _LARGEST_GUESS / RESOLUTION:
                return None
        if inside == 1:
            return 1
        below = (n for n, e in known.items() if e > self._target and n < inside)
        outside = max(below, default=inside // 2)
        while self._epsilon(outside) <= self._target:
            if outside == 1:
                return 1
            inside, outside = outside, outside // 2
        return boundary(self._epsilon, self._target, inside, outside)

    def exceeds(self, thousandths: int) -> bool:
        """Whether ε is above the target beyond doubt.

        The error of ε is about proportional to the square of the lattice's interval.
        So ε on a lattice of half the points has four times the error, and the
        difference of both values is three times the error. The excess over the target
        must be a hundred times this difference.
        """
        try:
            fine = self._epsilon(thousandths)
            excess = fine - self._target
            if not (math.isfinite(fine) and excess > 1e-5 * self._target):
                return False
            coarse = self._epsilon(thousandths, _POINTS // 2)
        except ArithmeticError:
            return False
        # Equal values come from the same lattice, and tell nothing about the error.
        return coarse != fine and excess > 100 * abs(coarse - fine)
