"""Estimates ε from Gaussians that are fitted to canaries' cosines."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy import special

from tfl_research.data import derived_generator

_BISECTIONS = 60
# Standard deviations this close count as equal.
_EQUAL_WITHIN = 1e-7


def _log_interval(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Computes log P[low < Z < high] of a standard normal; -inf if low >= high."""
    # In the lower tail, the difference keeps its digits.
    flip = low > 0
    low, high = np.where(flip, -high, low), np.where(flip, -low, high)
    upper, lower = special.log_ndtr(high), special.log_ndtr(low)
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = upper + np.log(-np.expm1(np.minimum(lower - upper, 0.0)))
    return np.where(high > low, inside, -np.inf)


def _log_hockey_stick(
    epsilon: np.ndarray, shift: np.ndarray, ratio: np.ndarray
) -> np.ndarray:
    """Computes log δ(ε) of P = N(shift, ratio²) and Q = N(0, 1).

    δ(ε) = sup P[S] - e^ε Q[S]. The roots of a quadratic a x² + b x + c bound the set S
    with log p/q > ε. If P is wider than Q, S is the line without an interval. If P is
    narrower, S is an interval. If both are equally wide, S is a half line.
    """
    a = (1 - ratio**-2) / 2
    b = shift / ratio**2
    c = -np.log(ratio) - shift**2 / (2 * ratio**2) - epsilon
    with np.errstate(divide="ignore", invalid="ignore"):
        discriminant = b**2 - 4 * a * c
        root = np.sqrt(np.maximum(discriminant, 0.0))
        # The form of the quadratic formula that does not cancel.
        q = -(b + np.where(b >= 0, root, -root)) / 2
        roots = q / a, np.where(q == 0, 0.0, c / q)
        line = -c / b
    low, high = np.fmin(*roots), np.fmax(*roots)
    equal = np.abs(ratio - 1) < _EQUAL_WITHIN
    never = discriminant <= 0

    def log_mass(mean: Any, std: Any) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            below, above = (low - mean) / std, (high - mean) / std
            outside = np.logaddexp(special.log_ndtr(below), special.log_ndtr(-above))
            inside = _log_interval(below, above)
            beyond = special.log_ndtr(np.sign(b) * (mean - line) / std)
            beyond = np.where(b == 0, -np.inf, beyond)
        wide = np.where(never, 0.0, outside)
        narrow = np.where(never, -np.inf, inside)
        return np.where(equal, beyond, np.where(ratio > 1, wide, narrow))

    log_p = log_mass(shift, ratio)
    log_q = epsilon + log_mass(0.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = np.where(log_q == -np.inf, -np.inf, np.minimum(log_q - log_p, 0.0))
        return np.where(log_p == -np.inf, -np.inf, log_p + np.log(-np.expm1(gap)))


def epsilon_between_gaussians(
    means: Any, stds: Any, other_means: Any, other_stds: Any, delta: float
) -> np.ndarray:
    """Finds the smallest ε >= 0 such that two Gaussians are (ε, δ)-indistinguishable.

    ε holds in both directions. The hockey-stick divergence is exact; bisection solves
    for ε. Arguments are broadcast.

    Args:
      means: float `[...]`.
      stds: standard deviations, above 0.
      other_means: the means of the other Gaussian.
      other_stds: the standard deviations of the other Gaussian, above 0.
      delta: δ in (0, 1).

    Returns:
      float64 of the arguments' common shape.

    Raises:
      ValueError: δ is outside of (0, 1), or a standard deviation is not above 0.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1), got {delta}")
    means, stds, other_means, other_stds = np.broadcast_arrays(
        *(np.asarray(a, np.float64) for a in (means, stds, other_means, other_stds))
    )
    if not (np.all(stds > 0) and np.all(other_stds > 0)):
        least = min(float(np.min(stds)), float(np.min(other_stds)))
        raise ValueError(f"standard deviations must be above 0, got {least}")
    gap = means - other_means
    pairs = [(gap / other_stds, stds / other_stds), (-gap / stds, other_stds / stds)]

    def too_small(epsilon: np.ndarray) -> np.ndarray:
        log_delta = np.log(delta)
        return np.logical_or.reduce(
            [_log_hockey_stick(epsilon, shift, r) > log_delta for shift, r in pairs]
        )

    low = np.zeros_like(gap)
    high = np.ones_like(gap)
    while np.any(growing := too_small(high)):
        low, high = np.where(growing, high, low), np.where(growing, 2 * high, high)
    at_zero = too_small(np.zeros_like(gap))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        larger = too_small(middle)
        low, high = np.where(larger, middle, low), np.where(larger, high, middle)
    return np.where(at_zero, high, 0.0)


@dataclasses.dataclass(frozen=True)
class GaussianEstimate:
    """The estimate ε̂, which is neither an upper nor a lower bound.

    Attributes:
      epsilon: the estimate.
      low, high: the ends of the bootstrap's percentile interval.
      confidence: the confidence of the interval.
      mean, std: the mean and standard deviation of the scores of canaries that took
        part.
      null_mean, null_std: the mean and standard deviation of the scores of canaries
        that did not take part.
    """

    epsilon: float
    low: float
    high: float
    confidence: float
    mean: float
    std: float
    null_mean: float
    null_std: float


def estimate_epsilon(
    scores: np.ndarray,
    *,
    null_mean: float,
    null_std: float,
    delta: float,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> GaussianEstimate:
    """Estimates ε between Gaussians that fit the scores of used and unused canaries.

    Andrew et al. 2023 (arXiv 2302.03098), Algorithm 2: the Gaussian has the mean and
    standard deviation of the scores. The cosine of a random unit vector with any
    independent vector has mean 0 and standard deviation d^(-1/2), and is close to a
    Gaussian for a large dimension d. The interval has percentiles of ε̂ over resampled
    canaries. The interval shows how far ε̂ would move with other canaries, and not where
    ε is. With few canaries, ε̂ and its interval are too large, especially for a small ε:
    an error of the standard deviation in either direction counts as leakage.

    Args:
      scores: float `[canaries]`, scores of canaries that took part, at least 2.
      null_mean: mean score of canaries that did not take part.
      null_std: standard deviation of the scores of these canaries, above 0.
      delta: δ in (0, 1).
      confidence: the confidence of the interval, in (0, 1).
      resamples: the number of resamples of the bootstrap, at least 1.
      seed: the seed of the bootstrap.

    Raises:
      ValueError: an argument is out of range, there are fewer than two scores, a score
        is not finite, or all scores are equal.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or len(scores) < 2 or not np.isfinite(scores).all():
        raise ValueError(
            f"expected the finite scores of at least 2 canaries, got {scores!r}"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    mean, std = scores.mean(), scores.std(ddof=1)
    if not std > 0:
        raise ValueError(
            f"all {len(scores)} canaries have the score {mean:g}, so no spread can be "
            "estimated; expected scores that differ"
        )
    generator = derived_generator("audit bootstrap", seed)
    indices = generator.integers(len(scores), size=(resamples, len(scores)))
    resampled = scores[indices]
    stds = resampled.std(axis=1, ddof=1)
    # A resample that repeats a single canary has no spread, and gives no information.
    stds = np.where(stds > 0, stds, std)
    epsilons = epsilon_between_gaussians(
        resampled.mean(axis=1), stds, null_mean, null_std, delta
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(epsilons, [tail, 1 - tail])
    return GaussianEstimate(
        epsilon=float(epsilon_between_gaussians(mean, std, null_mean, null_std, delta)),
        low=float(low),
        high=float(high),
        confidence=confidence,
        mean=float(mean),
        std=float(std),
        null_mean=float(null_mean),
        null_std=float(null_std),
    )
