"""Plans the integer grid, noise shares and modulus of a distributed mechanism."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Optional

from tfl_research.privacy.accounting import events
from tfl_research.privacy.accounting.events.discrete_gaussian_event import (
    SMALLEST_SHARE,
    DiscreteGaussianEvent,
)
from tfl_research.privacy.accounting.events.distributed_event import DistributedEvent
from tfl_research.privacy.accounting.events.skellam_event import SkellamEvent

MECHANISMS: dict[str, type[DistributedEvent]] = {
    "discrete_gaussian": DiscreteGaussianEvent,
    "skellam": SkellamEvent,
}
# β of conditional rounding: Kairouz, Liu and Steinke 2021, Section 4.
ROUNDING_BIAS = math.exp(-0.5)
# Largest standard deviation of a share; more noise needs large tables, and such a fine
# grid gains no accuracy.
LARGEST_SHARE = 2.0**13
# Updates of up to this many quanta have fractional bits in float32.
_LARGEST_CLIP = 2.0**20


def squared_norm_bound(clip_quanta: float, dimension: int, bias: float) -> int:
    """Computes the largest squared l2 norm of a rounded vector, a whole number.

    Kairouz, Liu and Steinke 2021 (arXiv 2102.06387), Theorem 1, with γ = 1: for a
    vector of norm c, min((c + √d)², c² + d/4 + √(2 log(1/β)) (c + √d/2)). Randomised
    rounding stays below the second bound with probability at least 1 - β.
    """
    root = math.sqrt(dimension)
    always = (clip_quanta + root) ** 2
    if bias == 0:
        return math.floor(always)
    deviation = math.sqrt(2 * math.log(1 / bias)) * (clip_quanta + root / 2)
    return math.floor(min(always, clip_quanta**2 + dimension / 4 + deviation))


@dataclasses.dataclass(frozen=True)
class DistributedPlan:
    """Grid, noise shares and modulus of a distributed mechanism.

    Lengths are in quanta, the steps of the integer grid.

    Attributes:
      mechanism: "discrete_gaussian" or "skellam".
      noise_multiplier: standard deviation of `minimum_cohort_size` shares over
        `l2_sensitivity`.
      dimension: number of scalars in an update.
      cohort_size: the mean's denominator.
      minimum_cohort_size: a round with fewer reporting clients releases zero.
      bits: sums are modulo 2^bits.
      rounding_bias: β of conditional rounding; 0 rounds without a condition.
      overflow_stddevs: how many standard deviations of a sum fit the modulus.
      clip_quanta: the clip, so that a quantum is clip / clip_quanta.
      share_stddev: standard deviation of one client's noise.
    """

    mechanism: str
    noise_multiplier: float
    dimension: int
    cohort_size: float
    minimum_cohort_size: int
    bits: int
    rounding_bias: float
    overflow_stddevs: float
    clip_quanta: float
    share_stddev: float

    @property
    def padded_dimension(self) -> int:
        """Length of the integer vectors: the dimension padded to a power of two."""
        return padded(self.dimension)

    @property
    def squared_norm_bound(self) -> int:
        """Largest squared l2 norm of a client's rounded vector."""
        return squared_norm_bound(
            self.clip_quanta, self.padded_dimension, self.rounding_bias
        )

    @property
    def l2_sensitivity(self) -> float:
        """Largest l2 norm of a client's rounded vector."""
        return math.sqrt(self.squared_norm_bound)

    @property
    def overflow_probability(self) -> float:
        """Bounds the probability that a coordinate's sum wraps around in one round.

        This is Chernoff's bound for `cohort_size` clients with equal updates: after
        rotation a coordinate is sub-Gaussian with variance (n c)²/d, rounding adds n/4,
        and the noise has its own generating function. Wrapping around costs accuracy,
        but never privacy.
        """
        return _overflow_probability(
            self.mechanism,
            self.clip_quanta,
            self.share_stddev,
            self.cohort_size,
            self.padded_dimension,
            self.bits,
        )

    def event(
        self,
        *,
        population: int,
        sampling: str = "none",
        neighbouring_relation: str = "zero_out",
    ) -> DistributedEvent:
        """Returns a round's event; see `distributed_event.DistributedEvent`.

        Raises:
          ValueError: sampling and relation do not fit, or the population is too small.
        """
        return MECHANISMS[self.mechanism](
            noise_multiplier=float(self.noise_multiplier),
            sampling=sampling,
            population=int(population),
            cohort_size=float(self.cohort_size),
            neighbouring_relation=neighbouring_relation,
            minimum_cohort_size=int(self.minimum_cohort_size),
            dimension=self.padded_dimension,
            l2_sensitivity=self.l2_sensitivity,
        )

    def description(self) -> list[str]:
        """Returns sentences about grid, noise and modulus for privacy statements."""
        inflation = self.l2_sensitivity / self.clip_quanta
        return [
            f"Integer grid: the clip is {self.clip_quanta:.6g} quanta; rounding raises "
            f"the l2 sensitivity by a factor of {inflation:.4g} (β = "
            f"{self.rounding_bias:.4g}).",
            f"Each client's noise has a standard deviation of {self.share_stddev:.6g} "
            f"quanta; the shares of {self.minimum_cohort_size} clients make up the "
            "noise that is accounted for.",
            f"Sums are modulo 2^{self.bits}; a coordinate wraps around with "
            f"probability at most {self.overflow_probability:.2g} a round.",
        ]


def padded(dimension: int) -> int:
    """Returns the least power of two that is at least `dimension`."""
    return 1 << (dimension - 1).bit_length()


def plan_distributed(
    mechanism: str,
    *,
    noise_multiplier: float,
    dimension: int,
    cohort_size: float,
    minimum_cohort_size: Optional[int] = None,
    bits: int = 20,
    rounding_bias: float = ROUNDING_BIAS,
    overflow_stddevs: float = 4.0,
) -> DistributedPlan:
    """Plans the finest grid on which the noisy sums fit the modulus.

    Kairouz, Liu and Steinke 2021 (arXiv 2102.06387), Section 4.4: with n clients, d
    padded coordinates, a clip of c quanta and shares of standard deviation σ, the plan
    has the largest c with k √(c² n²/d + (1/4 + σ²) n) <= 2^(bits - 1). Here σ follows
    from c: the noise multiplier is relative to the l2 sensitivity after rounding.

    Args:
      mechanism: "discrete_gaussian" or "skellam".
      noise_multiplier: standard deviation of the noise of `minimum_cohort_size`
        clients over the l2 sensitivity; 0 adds no noise.
      dimension: number of scalars in an update.
      cohort_size: expected number of clients in a round; the mean's denominator.
      minimum_cohort_size: number of clients whose shares together are the noise for
        which ε is computed; `cohort_size` by default. Lower this number by the number
        of clients that may drop out or collude with the server: each share then grows.
      bits: the number of bits of the modulus, 2 to 32.
      rounding_bias: β in [0, 1).
      overflow_stddevs: k, above 0.

    Raises:
      ValueError: an argument is outside its range, the bits cannot hold the sums, or a
        share of discrete Gaussian noise would be too small for the known bounds.
    """
    if mechanism not in MECHANISMS:
        raise ValueError(
            f"mechanism must be one of {tuple(MECHANISMS)}, got {mechanism!r}"
        )
    events.check_noise_multiplier(noise_multiplier)
    if dimension < 1:
        raise ValueError(f"dimension must be at least 1, got {dimension}")
    if not (cohort_size > 0 and math.isfinite(cohort_size)):
        raise ValueError(f"cohort_size must be positive, got {cohort_size}")
    if minimum_cohort_size is None:
        minimum_cohort_size = math.floor(cohort_size)
    if not 1 <= minimum_cohort_size <= cohort_size:
        raise ValueError(
            f"minimum_cohort_size must be in [1, {cohort_size:g}] (the cohort size), "
            f"got {minimum_cohort_size}"
        )
    if not (2 <= bits <= 32 and bits == int(bits)):
        raise ValueError(f"bits must be a whole number from 2 to 32, got {bits}")
    if not 0 <= rounding_bias < 1:
        raise ValueError(f"rounding_bias must be in [0, 1), got {rounding_bias}")
    if not (overflow_stddevs > 0 and math.isfinite(overflow_stddevs)):
        raise ValueError(f"overflow_stddevs must be positive, got {overflow_stddevs}")
    length = padded(dimension)

    def share(clip: float) -> float:
        bound = squared_norm_bound(clip, length, rounding_bias)
        return noise_multiplier * math.sqrt(bound / minimum_cohort_size)

    def fits(clip: float) -> bool:
        variance = (clip * cohort_size) ** 2 / length
        variance += (0.25 + share(clip) ** 2) * cohort_size
        enough = overflow_stddevs * math.sqrt(variance) <= 2.0 ** (bits - 1)
        return enough and share(clip) <= LARGEST_SHARE

    # With a clip below one quantum, nearly every update would round to noise.
    if not fits(1.0):
        raise ValueError(
            f"{bits} bits cannot hold the sum of {cohort_size:g} clients in {length} "
            f"coordinates with noise multiplier {noise_multiplier:g}: raise bits, or "
            "lower the noise multiplier"
        )
    clip = _largest(fits, 1.0, _LARGEST_CLIP)
    if mechanism == "discrete_gaussian" and 0 < share(clip) < SMALLEST_SHARE:
        raise ValueError(
            f"with {bits} bits a client's discrete Gaussian noise has a standard "
            f"deviation of {share(clip):.3g} quanta, but bounds are known only from "
            f"{SMALLEST_SHARE} quanta on: raise bits, or use 'skellam'"
        )
    return DistributedPlan(
        mechanism,
        float(noise_multiplier),
        int(dimension),
        float(cohort_size),
        int(minimum_cohort_size),
        int(bits),
        float(rounding_bias),
        float(overflow_stddevs),
        clip,
        share(clip),
    )


def _largest(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Finds the largest number in [low, high] with a monotone property."""
    if holds(high):
        return high
    while high - low > 1e-6 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _overflow_probability(
    mechanism: str,
    clip: float,
    share: float,
    clients: float,
    dimension: int,
    bits: int,
) -> float:
    half = 2.0 ** (bits - 1)
    gaussian = (clip * clients) ** 2 / dimension + clients / 4
    noise = clients * share**2

    def log_bound(log_t: float) -> float:
        t = math.exp(log_t)
        if mechanism == "skellam":
            # E exp(tX) = exp(variance (cosh t - 1)) for a Skellam variable X.
            grown = noise * 2 * math.sinh(t / 2) ** 2
        else:
            grown = noise * t**2 / 2
        return gaussian * t**2 / 2 + grown - t * half

    from scipy import optimize  # Takes a tenth of a second, and is seldom used.

    best = optimize.minimize_scalar(log_bound, bounds=(-40, 5), method="bounded")
    return min(1.0, 2 * math.exp(min(float(best.fun), 0.0)))
