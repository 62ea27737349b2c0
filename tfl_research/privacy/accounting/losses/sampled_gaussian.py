"""Computes ε after every round of the sampled Gaussian mechanism.

The privacy loss distribution (PLD) of one round is discretised with the
pessimistic Connect-the-Dots rule (Doroshenko et al. 2022, arXiv 2207.04380), as
dp-accounting does. Composing t rounds is the t-th power of its characteristic
function φ (Koskela et al. 2020, arXiv 1906.03049). An accountant that composes by
FFT pays milliseconds for each t. Here δ of t rounds at ε is evaluated straight
from φ on a tilted contour θ + iω,

    δ_t(ε) = (M(θ)^t / N) Re Σ_k φ_θ(ω_k)^t Σ_{y > ε} e^{-(θ - iω_k) y} (1 - e^{ε-y})

where M(θ) = E[e^{θ·loss}], φ_θ is the characteristic function of the loss under
weights p·e^{θ·loss} / M(θ), and the inner sum over lattice points y is geometric.
With θ near the saddle point, φ_θ^t falls off fast, so few frequencies count, and
rounding errors are relative to δ instead of to 1. The N frequencies make the
sum periodic with period L: the sum then also counts δ_t(ε + mL)·e^{mθL} for every
m ≠ 0. These terms are positive, so the error is on the safe side. L is chosen so that
by Chernoff bounds each term is below e^-25·δ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Optional

import numpy as np

from tfl_research.privacy.accounting.losses.contour import Contour
from tfl_research.privacy.accounting.losses.loss_distribution import (
    INTERVAL,
    MAX_STEP,
    Loss,
    LossDistribution,
    base_moment,
    chernoff,
    directions,
    loss_distribution,
    tilt,
    tilts,
)

# A period with more points (ε of hundreds) gets a coarser lattice.
_MAX_PERIOD_POINTS = 1 << 22
# Aliasing terms are each below exp(-_ALIAS_LOG) of δ.
_ALIAS_LOG = 25.0
# To shorten the period, a tilt may let terms grow to e^12·δ; δ keeps 11 digits.
_LOST_DIGITS = 12.0


class DirectionSolver:
    """Computes ε after t rounds in one `loss_distribution.Direction`."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self._best_step = 0
        self._solution: tuple[int, float] | None = None
        self._coarse: DirectionSolver | None = None

    def solve(self, rounds: np.ndarray, delta: float) -> np.ndarray:
        """Computes ε of each number of rounds; +inf if no finite ε exists.

        ε may be below 0 by at most δ; the mechanism is then (0, δ)-DP.

        Args:
          rounds: increasing int64 `[n]`, the last at most about twice the first.
          delta: target δ.
        """
        all_rounds = rounds
        base = self.loss.base
        once = 0.0 if base is None else math.log1p(-base.infinity_mass)
        infinite = -np.expm1(rounds * math.log1p(-self.loss.infinity_mass) + once)
        finite_deltas = delta - infinite
        epsilons = np.full(len(rounds), np.inf)
        finite = finite_deltas > 0
        if not finite.any():
            return epsilons
        rounds, log_deltas = rounds[finite], np.log(finite_deltas[finite])
        solution = self._initial_guess(rounds, log_deltas)
        longest_required = 0.0
        while True:
            step, period = self._plan(rounds, log_deltas, solution)
            # The period never becomes shorter than an earlier pass required.
            period = max(period, longest_required)
            if period > _MAX_PERIOD_POINTS * self.loss.interval:
                return self._coarser(period).solve(all_rounds, delta)
            contour = Contour(self.loss, step, 1.1 * period, int(rounds[0]))
            bounds = chernoff(self.loss, np.array([step]), rounds, log_deltas)[0]
            solution = contour.epsilons(rounds, log_deltas, solution, bounds)
            required = self._required_period(step, rounds, log_deltas, solution)
            longest_required = max(longest_required, required)
            if required <= 1.1 * period:
                break
        self._solution = int(rounds[-1]), float(solution[-1])
        epsilons[finite] = solution
        return epsilons

    def _climb(self, value: Callable[[int], float]) -> int:
        """Finds the step of the tilt grid where `value` is least; `value` is convex."""
        step, lowest = self._best_step, value(self._best_step)
        for direction in (1, -1):
            while abs(step) < MAX_STEP:
                following = value(step + direction)
                if following >= lowest:
                    break
                step, lowest = step + direction, following
        self._best_step = step
        return step

    def _loss_of_digits(
        self, step: int, rounds: float, log_delta: float, epsilon: float
    ) -> float:
        """Computes the natural logarithm of the contour's largest term over δ.

        Equals θ times the distance from `epsilon` up to the Chernoff bound.
        """
        theta = tilt(step)
        peak = theta * math.log(theta) - (theta + 1) * math.log1p(theta)
        moment = rounds * self.loss.log_moment(step) + base_moment(self.loss, step)
        return moment + peak - log_delta - theta * epsilon

    def _initial_guess(self, rounds: np.ndarray, log_deltas: np.ndarray) -> np.ndarray:
        """Guesses ε roughly.

        The guess is the best Chernoff bound minus its usual gap. If the last solution
        is for a near number of rounds, the guess is the scaled last solution.
        """
        middle = len(rounds) // 2
        count, log_delta = float(rounds[middle]), float(log_deltas[middle])
        step = self._climb(
            lambda s: self._loss_of_digits(s, count, log_delta, 0.0) / tilt(s)
        )
        guess = chernoff(self.loss, np.array([step]), rounds, log_deltas)[0]
        guess -= 4 / tilt(step)
        if self._solution is not None:
            solved_rounds, solved_epsilon = self._solution
            if rounds[0] / 4 <= solved_rounds <= rounds[-1] * 4:
                scaled = solved_epsilon * np.sqrt(rounds / solved_rounds)
                guess = np.minimum(guess, scaled)
        return guess

    def _plan(
        self, rounds: np.ndarray, log_deltas: np.ndarray, epsilons: np.ndarray
    ) -> tuple[int, float]:
        """Finds the step of the tilt with the shortest period that keeps the digits."""
        middle = len(rounds) // 2
        at_middle = (float(a[middle]) for a in (rounds, log_deltas, epsilons))
        count, log_delta, epsilon = at_middle
        ends = [a[[0, -1]] for a in (rounds, log_deltas, epsilons)]

        def lost(step: int) -> float:
            return self._loss_of_digits(step, count, log_delta, epsilon)

        best = self._climb(lost)
        limit = max(_LOST_DIGITS, lost(best) + 1)
        shortest = best, self._required_period(best, *ends)
        for direction in (1, -1):
            step = best + direction
            while abs(step) < MAX_STEP and lost(step) <= limit:
                period = self._required_period(step, *ends)
                if period > 1.5 * shortest[1]:
                    break
                shortest = min(shortest, (step, period), key=lambda pair: pair[1])
                step += direction
        return shortest

    def _required_period(
        self,
        step: int,
        rounds: np.ndarray,
        log_deltas: np.ndarray,
        epsilons: np.ndarray,
    ) -> float:
        """Finds the smallest period whose aliasing terms are each below e^-25·δ."""
        neighbours = step + np.concatenate([np.arange(-12, 0), np.arange(1, 13)])
        theta = tilts(neighbours)[:, np.newaxis]
        bounds = chernoff(self.loss, neighbours, rounds, log_deltas)
        excess = theta * (bounds - epsilons)
        periods = (excess + _ALIAS_LOG) / np.abs(theta - tilt(step))
        below, above = periods[:12].min(axis=0), periods[12:].min(axis=0)
        return float(max(below.max(), above.max(), 16 * self.loss.interval))

    def _coarser(self, period: float) -> DirectionSolver:
        interval = self.loss.interval
        while period > _MAX_PERIOD_POINTS * interval:
            interval *= 2
        if self._coarse is None or self._coarse.loss.interval < interval:
            self._coarse = DirectionSolver(self.loss.coarser(interval))
        return self._coarse


class SampledGaussianCurve:
    """Computes ε after t rounds of the sampled Gaussian.

    Attributes:
      noise_multiplier: σ of a round's noise over the sensitivity, above 0.
      sampling_rate: q in (0, 1).
      delta: δ in (0, 1).
      neighbouring_relation: "add_or_remove_one" of Poisson sampling, or
        "replace_one" of a uniformly random subset.
    """

    def __init__(
        self,
        noise_multiplier: float,
        sampling_rate: float,
        delta: float,
        neighbouring_relation: str = "add_or_remove_one",
        most_points: Optional[int] = None,
    ) -> None:
        """Makes the curve of one kind of round.

        Args:
          noise_multiplier, sampling_rate, delta, neighbouring_relation: see the
            attributes.
          most_points: largest number of points of the lattice; the accountant's by
            default. Fewer points give a rough, larger ε in less time.
        """
        self.noise_multiplier = noise_multiplier
        self.sampling_rate = sampling_rate
        self.delta = delta
        self.neighbouring_relation = neighbouring_relation
        self._directions = [
            DirectionSolver(
                loss_distribution(noise_multiplier, sampling_rate, direction, INTERVAL)
                if most_points is None
                else LossDistribution(
                    noise_multiplier,
                    sampling_rate,
                    direction=direction,
                    most_points=most_points,
                )
            )
            for direction in directions(neighbouring_relation)
        ]

    def epsilon(self, rounds: int) -> float:
        """Computes ε after `rounds` rounds (at least 1)."""
        numbers = np.array([rounds], np.int64)
        solved = [solver.solve(numbers, self.delta)[0] for solver in self._directions]
        return max(0.0, *(float(epsilon) for epsilon in solved))

    def block(self, first: int, every: int = 1) -> np.ndarray:
        """Computes ε after first, first + 1, ... rounds: `[max(1, first // 2)]`.

        With `every`, the result is ε after every · first, every · (first + 1), ...
        rounds. A block starts from the solution of the previous block, so a value's
        last digits can depend on the earlier calls.
        """
        # One tilt is used for up to 1.5 times as many rounds.
        rounds = every * np.arange(first, first + max(1, first // 2))
        solved = [solver.solve(rounds, self.delta) for solver in self._directions]
        return np.maximum(0.0, np.max(solved, axis=0))
