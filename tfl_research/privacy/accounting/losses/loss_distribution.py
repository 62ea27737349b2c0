"""Discretises the privacy loss of one round of a sampled Gaussian."""

from __future__ import annotations

import functools
import math
from typing import Literal, Optional, Protocol

import numpy as np
from scipy import fft, special

# dp-accounting's default interval of the discretised privacy loss.
INTERVAL = 1e-4
# The largest number of points; losses above 100 would need more, and get a coarser
# interval.
_MAX_POINTS = 1 << 20
# Log of the noise's probability mass that counts as infinite loss: dp-accounting's
# e^-50.
_LOG_TAIL = -50.0
# The exponential of a number up to this is 0 in float64.
_VANISHING = -746.0
# Tilts θ lie on a geometric grid, from 1e-7 to 1e7, and are named by their step.
_TILT_RATIO = 1.15
MAX_STEP = 115


# The change of a client from the first data set to the second.
Direction = Literal["remove", "add", "replace"]


def directions(neighbouring_relation: str) -> tuple[Direction, ...]:
    """Returns a relation's directions; the largest ε of a direction is the ε."""
    if neighbouring_relation == "replace_one":
        return ("replace",)
    return ("remove", "add")


def tilt(step: int) -> float:
    """Returns θ of one step of the grid."""
    return float(_TILT_RATIO**step)


def tilts(steps: np.ndarray) -> np.ndarray:
    """Returns θ of several steps of the grid."""
    return _TILT_RATIO ** steps.astype(np.float64)


def _deltas(epsilons: np.ndarray, sigma: float, q: float, *, adds: bool) -> np.ndarray:
    """Computes δ(ε) of a round, see `LossDistribution`.

    δ(ε) is the hockey-stick divergence of P from Q, or of Q from P if `adds`.
    """
    # The loss grows with the output x when the client is removed and falls when it
    # is added, so that {loss > ε} is a half-line that ends at `cut`.
    sign = -1.0 if adds else 1.0
    # log(e^{±ε} - (1 - q)), without cancellation near ε = 0 or overflow far from it.
    exponents = sign * epsilons
    near = np.expm1(np.minimum(exponents, 30.0)) + q
    reached = near > 0
    cut = np.full_like(epsilons, -np.inf)
    log_excess = np.where(
        exponents > 30,
        exponents + np.log1p((q - 1) * np.exp(-np.maximum(exponents, 30.0))),
        np.log(np.where(reached, near, 1.0)),
    )
    cut[reached] = sigma**2 * (log_excess[reached] - math.log(q)) + 0.5
    # Probabilities of the half-line under Q and under the mixture P.
    without = special.ndtr(-sign * cut / sigma)
    mixture = (1 - q) * without + q * special.ndtr(-sign * (cut - 1) / sigma)
    numerator, denominator = (without, mixture) if adds else (mixture, without)
    with np.errstate(divide="ignore"):
        deltas = numerator - np.exp(epsilons + np.log(denominator))
    return np.minimum.accumulate(np.clip(deltas, 0.0, 1.0))


def connected(deltas: np.ndarray, interval: float) -> np.ndarray:
    """Computes probabilities of the lattice points that give δ(ε) these values.

    Doroshenko et al. 2022 (arXiv 2207.04380), Algorithm 1.
    """
    steps = np.diff(deltas)
    probabilities = np.empty_like(deltas)
    growth = math.expm1(interval)
    probabilities[0] = 1 - deltas[0] + steps[0] / growth
    probabilities[1:-1] = (steps[1:] - steps[:-1] * math.exp(interval)) / growth
    probabilities[-1] = steps[-1] / math.expm1(-interval)
    return np.maximum(probabilities, 0.0)


class Loss(Protocol):
    """A discretised privacy loss, for composition.

    Attributes:
      interval: distance of the lattice points.
      infinity_mass: probability of an infinite loss.
    """

    interval: float
    infinity_mass: float

    def log_moment(self, step: int) -> float:
        """K(θ) = log E[e^{θ·loss}; loss finite] at θ = `tilt(step)`."""

    def log_spectrum(self, step: int, size: int, least: float) -> np.ndarray:
        """Log of the characteristic function under the tilted probabilities."""

    def coarser(self, interval: float) -> Loss:
        """The same loss on a lattice of a larger interval."""

    @property
    def base(self) -> Optional[Loss]:
        """A loss that is composed once in addition to the rounds; None for none."""


def chernoff(
    loss: Loss, steps: np.ndarray, rounds: np.ndarray, log_deltas: np.ndarray
) -> np.ndarray:
    """Computes upper bounds of ε by Rényi DP of order 1 + θ, `[steps, rounds]`."""
    theta = tilts(steps)[:, np.newaxis]
    # log of sup over y > 0 of e^{-θy}(1 - e^{-y}).
    peak = theta * np.log(theta) - (theta + 1) * np.log1p(theta)
    moments = np.array([loss.log_moment(step) for step in steps])[:, np.newaxis]
    once = np.array([base_moment(loss, step) for step in steps])[:, np.newaxis]
    return np.asarray((rounds * moments + once + peak - log_deltas) / theta)


def base_moment(loss: Loss, step: int) -> float:
    """`Loss.log_moment` of the loss's base."""
    return 0.0 if loss.base is None else loss.base.log_moment(step)


def _exponentials(terms: np.ndarray) -> np.ndarray:
    """Applies `np.exp` to an array in place.

    The terms at both ends can be so low that their exponential is 0. NumPy takes ten
    times as long for such terms, so they are set to 0 directly.
    """
    counted = terms > _VANISHING
    first = int(counted.argmax())
    last = len(terms) - int(counted[::-1].argmax())
    terms[:first], terms[last:] = 0.0, 0.0
    np.exp(terms[first:last], out=terms[first:last])
    return terms


class LatticeLoss:
    """A privacy loss on the points of a lattice.

    Attributes:
      interval: distance of the lattice points.
      lower: the first loss, in intervals.
      losses: float64 `[n]`, multiples of `interval`.
      probabilities: float64 `[n]`.
      log_probabilities: their logarithms, -inf where zero.
      infinity_mass: probability of an infinite loss.
      base: see `Loss`; None.
    """

    base: Optional[Loss] = None

    def __init__(
        self,
        interval: float,
        lower: int,
        probabilities: np.ndarray,
        infinity_mass: float = 0.0,
    ) -> None:
        """Makes a loss from the probabilities of neighbouring lattice points.

        Args:
          interval, lower, infinity_mass: see the attributes.
          probabilities: float64 `[n]`, probabilities of the losses `lower`,
            `lower + 1`, ..., in intervals.
        """
        self.interval, self.lower = interval, lower
        self.losses = (lower + np.arange(len(probabilities))) * interval
        self.probabilities, self.infinity_mass = probabilities, infinity_mass
        with np.errstate(divide="ignore"):
            self.log_probabilities = np.log(probabilities)
        self._log_moments: dict[int, float] = {}

    def log_moment(self, step: int) -> float:
        """K(θ) = log E[e^{θ·loss}; loss finite] at θ = `tilt(step)`."""
        if step not in self._log_moments:
            # In place: new arrays of this size take longer than the arithmetic.
            terms = tilt(step) * self.losses
            terms += self.log_probabilities
            peak = terms.max()
            terms -= peak
            total = _exponentials(terms).sum()
            self._log_moments[step] = float(peak + math.log(total))
        return self._log_moments[step]

    def log_spectrum(self, step: int, size: int, least: float) -> np.ndarray:
        """log of the characteristic function under the tilted probabilities.

        Args:
          step: the step of the tilt.
          size: number N of frequencies 2πk/(N·interval), k = 0, ..., N - 1.
          least: high frequencies are left out if all their magnitudes are at most
            this.

        Returns:
          complex128 `[frequencies]`, at most N // 2 + 1.
        """
        tilted = tilt(step) * self.losses
        tilted += self.log_probabilities
        tilted -= self.log_moment(step)
        _exponentials(tilted)
        folded = np.pad(tilted, (0, -len(tilted) % size))
        spectrum = fft.rfft(folded.reshape(-1, size).sum(axis=0))
        magnitudes = np.abs(spectrum)
        count = int(np.flatnonzero(magnitudes > least)[-1]) + 1
        # The lattice starts at `lower`, not at 0.
        shift = 2 * math.pi / size * ((np.arange(count) * self.lower) % size)
        logs = np.log(np.maximum(magnitudes[:count], 1e-300))
        return np.asarray(logs + 1j * (np.angle(spectrum[:count]) - shift))


class LossDistribution(LatticeLoss):
    """One round's discretised privacy loss of a sampled Gaussian, in one direction."""

    def __init__(
        self,
        noise_multiplier: float,
        sampling_rate: float,
        *,
        direction: Direction,
        interval: float = INTERVAL,
        most_points: int = _MAX_POINTS,
    ) -> None:
        """Discretises by the pessimistic Connect-the-Dots rule.

        Doroshenko et al. 2022 (arXiv 2207.04380), Algorithm 1: the hockey-stick
        curve δ(ε) of the result joins the points of the exact curve at the lattice.

        Let P = (1-q)N(0,σ²) + qN(1,σ²) and Q = N(0,σ²). If a client is removed, the
        curve is δ(ε) of P from Q; if a client is added, of Q from P. If a client is
        replaced in a uniformly random subset, P from Q bounds every pair of data sets
        at ε >= 0 (Balle, Barthe and Gaboardi 2018, arXiv 1807.01647, section 4: the
        output with a client is at most twice the clip from the output without the
        client, or with another client in its place). The relation is symmetric, so
        that δ(-ε) = 1 - e^-ε + e^-ε δ(ε) bounds every pair at -ε. Rounds compose by
        this curve even if the worst pair differs by round (Zhu, Dong and Wang 2022,
        arXiv 2106.08567). Rounds would not compose by the curve of P from Q alone.

        Args:
          noise_multiplier: σ of the noise over the sensitivity, above 0.
          sampling_rate: q in (0, 1].
          direction: "remove" or "add" (the client is in the first data set alone, or
            in the second), or "replace".
          interval: see `INTERVAL`.
          most_points: largest number of points of the lattice; if there would be more,
            the interval becomes larger.
        """
        self._parameters = noise_multiplier, sampling_rate, direction
        sigma, q = noise_multiplier, sampling_rate
        tail = -special.ndtri_exp(_LOG_TAIL - math.log(2)) * sigma

        def loss(x: float) -> float:
            exponent = (2 * x - 1) / (2 * sigma**2)
            rate = math.log(q) + exponent
            return float(np.logaddexp(math.log1p(-q), rate) if q < 1 else rate)

        low, high = loss(-tail), loss(tail + 1)
        if direction != "remove":
            low, high = -high, (high if direction == "replace" else -low)
        interval = max(interval, (high - low) / most_points)
        lower = math.floor(low / interval)
        losses = np.arange(lower, math.ceil(high / interval) + 1) * interval
        if direction == "replace":
            deltas = _deltas(losses[-lower:], sigma, q, adds=False)
            above = connected(deltas, interval)[1:]
            # For a symmetric relation, p(-loss) = e^-loss p(loss).
            below = above * np.exp(-losses[1 - lower :])
            at_zero = 1 - float(deltas[-1]) - above.sum() - below.sum()
            pieces = below[::-1], [max(at_zero, 0.0)], above
            probabilities = np.concatenate(pieces)
        else:
            deltas = _deltas(losses, sigma, q, adds=direction == "add")
            probabilities = connected(deltas, interval)
        super().__init__(interval, lower, probabilities, float(deltas[-1]))

    def coarser(self, interval: float) -> LossDistribution:
        """The same loss on a lattice of a larger interval."""
        sigma, q, direction = self._parameters
        return LossDistribution(sigma, q, direction=direction, interval=interval)


@functools.lru_cache(maxsize=64, typed=True)
def loss_distribution(
    noise_multiplier: float,
    sampling_rate: float,
    direction: Direction,
    interval: float,
) -> LossDistribution:
    """Caches a `LossDistribution`, so that its moments are computed once for all δ."""
    return LossDistribution(
        noise_multiplier, sampling_rate, direction=direction, interval=interval
    )
