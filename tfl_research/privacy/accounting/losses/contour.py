"""Computes δ of composed rounds from characteristic functions on a tilted contour."""

from __future__ import annotations

import math

import numpy as np
from scipy import fft

from tfl_research.privacy.accounting.losses.loss_distribution import (
    Loss,
    base_moment,
    tilt,
)

# Frequencies with terms below this share of the largest term are left out.
_DROPPED = 1e-15
# A magnitude so far below every term that it counts as 0.
_VANISHED = 1e-30
# The largest number of complex numbers in one table of powers.
_MAX_TABLE = 1 << 20
_STRIDE = 32


class Contour:
    """The characteristic function of a round's loss at θ - iω_k, k < `frequencies`."""

    def __init__(
        self, loss: Loss, step: int, period: float, fewest_rounds: int
    ) -> None:
        """Transforms the loss under weights p·e^{θ·loss}.

        Args:
          loss: the loss of one round, in one direction.
          step: the step of the tilt θ.
          period: L of the periodic sum, in units of loss.
          fewest_rounds: the least number of rounds that will be composed.
        """
        self.interval = loss.interval
        self.theta, self.log_moment = tilt(step), loss.log_moment(step)
        self.size = fft.next_fast_len(math.ceil(period / self.interval), real=True)
        self.logs = loss.log_spectrum(step, self.size, _DROPPED ** (1 / fewest_rounds))
        self.base_moment = base_moment(loss, step)
        self.base_logs = np.zeros(len(self.logs))
        if loss.base is not None:
            base = loss.base.log_spectrum(step, self.size, _VANISHED)
            self.base_logs, self.logs = base[: len(self.logs)], self.logs[: len(base)]
        self.frequencies = len(self.logs)
        self.index = np.arange(self.frequencies)

    def epsilons(
        self,
        rounds: np.ndarray,
        log_deltas: np.ndarray,
        guess: np.ndarray,
        bounds: np.ndarray,
    ) -> np.ndarray:
        """Computes ε of each number of rounds; `bounds` are upper bounds of ε."""
        offsets = rounds * self.log_moment + self.base_moment - log_deltas
        result = np.empty(len(rounds))
        lows = np.log1p(-np.exp(log_deltas)) - self.interval
        chunk = max(1, _MAX_TABLE // self.frequencies)
        correction = 0.0
        for start in range(0, len(rounds), chunk):
            part = slice(start, start + chunk)
            near = guess[part] + correction
            result[part] = self._by_newton(
                rounds[part], offsets[part], near, lows[part], bounds[part]
            )
            correction += result[part][-1] - near[-1]
        return result

    def _phases(self, cell: np.ndarray) -> np.ndarray:
        """Computes e^{2πi·cell·k / size}, `[len(cell), frequencies]`, from tables."""
        turn = 2j * math.pi / self.size
        fine = np.arange(_STRIDE)
        coarse = _STRIDE * np.arange(-(-self.frequencies // _STRIDE))
        outer = np.exp(turn * (np.multiply.outer(cell, coarse) % self.size))
        inner = np.exp(turn * (np.multiply.outer(cell, fine) % self.size))
        product = outer[:, :, np.newaxis] * inner[:, np.newaxis, :]
        return product.reshape(len(cell), -1)[:, : self.frequencies]

    def _by_newton(
        self,
        rounds: np.ndarray,
        offsets: np.ndarray,
        guess: np.ndarray,
        lows: np.ndarray,
        highs: np.ndarray,
    ) -> np.ndarray:
        """Solves for ε by Newton's method on log δ within brackets, for all rounds.

        `lows` may be log(1 - δ), since no mechanism has δ(ε) below 1 - e^ε.
        """
        powers = np.exp(np.multiply.outer(rounds, self.logs) + self.base_logs)
        s = self.theta - 2j * math.pi / (self.size * self.interval) * self.index
        weights = np.where((self.index == 0) | (2 * self.index == self.size), 1, 2)
        # Geometric sums of e^{-sy} and e^{-(s+1)y} over lattice points y >= 0.
        exponents = self.interval * np.stack([s, s + 1], axis=1)
        sums = weights[:, np.newaxis] / self.size / -np.expm1(-exponents)
        epsilons = np.clip(guess, lows, highs)
        for _ in range(200):
            cell = np.ceil(epsilons / self.interval).astype(np.int64)
            # BLAS would divide the sum among threads, and the number of threads would
            # change the last digits.
            terms = powers * self._phases(cell)
            above, below = np.einsum("rk,ks->sr", terms, sums).real
            fraction = np.exp(epsilons - cell * self.interval)
            stick = above - fraction * below
            # For ε far above the solution, δ can round to 0.
            positive = (stick > 0) & (below > 0)
            stick, below = np.where(positive, (stick, below), 1.0)
            excess = offsets - self.theta * cell * self.interval + np.log(stick)
            too_low = positive & (excess > 0)
            lows = np.where(too_low, epsilons, lows)
            highs = np.where(too_low, highs, epsilons)
            moved = epsilons + excess * stick / (fraction * below)
            inside = positive & (moved >= lows) & (moved <= highs)
            moved = np.where(inside, moved, (lows + highs) / 2)
            change = np.max(np.abs(moved - epsilons))
            epsilons = moved
            # The next step's error is about the square of this change, in units of 1/θ.
            if change * self.theta < 1e-6 or change < 1e-12:
                return epsilons
        raise ArithmeticError(
            "the search for ε did not converge; report this with the run's settings"
        )
