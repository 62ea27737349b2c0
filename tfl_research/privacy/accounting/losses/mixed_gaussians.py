"""Computes ε of rounds with different noise or sampling rates from their spectra."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tfl_research.privacy.accounting.losses.loss_distribution import (
    INTERVAL,
    Direction,
    Loss,
    LossDistribution,
    directions,
    loss_distribution,
)
from tfl_research.privacy.accounting.losses.pure import PureLoss
from tfl_research.privacy.accounting.losses.sampled_gaussian import DirectionSolver

# Up to this many kinds of rounds use the finest lattice; each kind costs transforms.
_FINE_PARTS = 5


def _interval(parts: int) -> float:
    """Returns the lattice's interval: coarser for many kinds of rounds, to save time.

    Discretisation is pessimistic at any interval. Its error is about proportional to
    the square of the interval.
    """
    coarser = 1
    while parts > _FINE_PARTS * coarser and coarser < 8:
        coarser *= 2
    return INTERVAL * coarser


class MixedLoss:
    """The loss of several different rounds together; see `Loss`."""

    base: Loss | None = None

    def __init__(
        self,
        parts: Sequence[tuple[float, float, int]],
        pure: Sequence[tuple[float, int]] = (),
        *,
        direction: Direction,
        interval: float = INTERVAL,
    ) -> None:
        """Makes the loss of all parts together.

        Args:
          parts, pure: see `mixed_epsilon`.
          direction, interval: see `LossDistribution`.
        """
        self._parts, self._pure, self._direction = parts, pure, direction
        losses: list[LossDistribution | PureLoss] = [
            loss_distribution(sigma, q, direction, interval) for sigma, q, _ in parts
        ]
        losses += [PureLoss(epsilon, interval) for epsilon, _ in pure]
        # Spectra can be multiplied only on a common lattice.
        self.interval = max(loss.interval for loss in losses)
        self._losses = [
            loss if loss.interval == self.interval else loss.coarser(self.interval)
            for loss in losses
        ]
        self._rounds = [part[-1] for part in (*parts, *pure)]
        finite = math.fsum(
            rounds * math.log1p(-loss.infinity_mass)
            for loss, rounds in zip(self._losses, self._rounds)
        )
        self.infinity_mass = -math.expm1(finite)

    def log_moment(self, step: int) -> float:
        """K(θ) = log E[e^{θ·loss}; loss finite] at θ = `tilt(step)`."""
        return math.fsum(
            rounds * loss.log_moment(step)
            for loss, rounds in zip(self._losses, self._rounds)
        )

    def log_spectrum(self, step: int, size: int, least: float) -> np.ndarray:
        """log of the characteristic function under the tilted probabilities."""
        # A product is no larger than each of its factors.
        spectra = [
            rounds * loss.log_spectrum(step, size, least ** (1 / rounds))
            for loss, rounds in zip(self._losses, self._rounds)
        ]
        shortest = min(map(len, spectra))
        total = np.sum([spectrum[:shortest] for spectrum in spectra], axis=0)
        count = int(np.flatnonzero(total.real > math.log(least))[-1]) + 1
        return np.asarray(total[:count])

    def coarser(self, interval: float) -> MixedLoss:
        """The same loss on a lattice of a larger interval."""
        return MixedLoss(
            self._parts, self._pure, direction=self._direction, interval=interval
        )


def mixed_epsilon(
    parts: Sequence[tuple[float, float, int]],
    delta: float,
    neighbouring_relation: str = "add_or_remove_one",
    pure: Sequence[tuple[float, int]] = (),
) -> float:
    """Computes ε of sampled Gaussian mechanisms, and of mechanisms of pure ε-DP.

    The composition is that of `sampled_gaussian`, with a product of characteristic
    functions instead of a power.

    Args:
      parts: for each kind of round: the noise over the sensitivity (above 0), the
        sampling rate in (0, 1], and the number of rounds (at least 1). Rate 1 is the
        Gaussian mechanism without sampling, for any relation.
      delta: target δ, in (0, 1).
      neighbouring_relation: "replace_one" for uniformly random subsets; any other
        relation means Poisson sampling.
      pure: for each kind of release of pure differential privacy: its ε and how often
        it is made.

    Raises:
      ValueError: there are no parts and no pure releases.
    """
    if not parts and not pure:
        raise ValueError("parts must name at least one kind of round, got none")
    interval = _interval(len(parts) + len(pure))
    largest = 0.0
    for direction in directions(neighbouring_relation):
        loss = MixedLoss(parts, pure, direction=direction, interval=interval)
        solver = DirectionSolver(loss)
        largest = max(largest, float(solver.solve(np.array([1]), delta)[0]))
    return largest


class GrowingLoss:
    """The loss of a round, and of a base that is composed once; see `Loss`."""

    def __init__(self, of_round: MixedLoss, base: MixedLoss) -> None:
        """Puts both losses on the coarser of their lattices."""
        self.interval = max(of_round.interval, base.interval)
        self._round: Loss = of_round
        self.base: Loss | None = base
        if of_round.interval < self.interval:
            self._round = of_round.coarser(self.interval)
        if base.interval < self.interval:
            self.base = base.coarser(self.interval)
        self._parts = of_round, base
        self.infinity_mass = self._round.infinity_mass

    def log_moment(self, step: int) -> float:
        """K(θ) = log E[e^{θ·loss}; loss finite] at θ = `tilt(step)`."""
        return self._round.log_moment(step)

    def log_spectrum(self, step: int, size: int, least: float) -> np.ndarray:
        """log of the characteristic function under the tilted probabilities."""
        return self._round.log_spectrum(step, size, least)

    def coarser(self, interval: float) -> GrowingLoss:
        """The same loss on a lattice of a larger interval."""
        of_round, base = self._parts
        return GrowingLoss(of_round.coarser(interval), base.coarser(interval))


class GrowingCurve:
    """ε of equal rounds composed with a base, for many numbers of rounds at once."""

    def __init__(
        self,
        part: tuple[float, float, int],
        base: Sequence[tuple[float, float, int]],
        pure: Sequence[tuple[float, int]],
        delta: float,
        neighbouring_relation: str,
    ) -> None:
        """Makes the curve of one kind of round, composed with a base.

        Args:
          part: one round, as in the parts of `mixed_epsilon`.
          base, pure, delta, neighbouring_relation: see `mixed_epsilon`; `base` has its
            parts.
        """
        interval = _interval(1 + len(base) + len(pure))
        self._delta = delta
        self._solvers = [
            DirectionSolver(
                GrowingLoss(
                    MixedLoss([part], direction=direction, interval=interval),
                    MixedLoss(base, pure, direction=direction, interval=interval),
                )
            )
            for direction in directions(neighbouring_relation)
        ]

    def block(self, first: int) -> np.ndarray:
        """Computes ε after first, first + 1, ... rounds: `[max(1, first // 2)]`."""
        rounds = np.arange(first, first + max(1, first // 2))
        solved = [solver.solve(rounds, self._delta) for solver in self._solvers]
        return np.maximum(0.0, np.max(solved, axis=0))
