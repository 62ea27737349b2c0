"""Tables from which integer noise is drawn exactly, with integer arithmetic alone."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

# A column of the table holds 2^62 units of probability: thresholds are int64.
COLUMN_BITS = 62
# Outcomes rarer than this are never drawn.
_SMALLEST = 2.0**-75


@dataclasses.dataclass(frozen=True)
class NoiseTable:
    """An alias table (Walker 1977; Vose 1991) of a symmetric integer variable's size.

    Draw a column and a 62-bit number, uniformly. The size is the column if the number
    is below the column's threshold, else the column's alias. The variable is the size
    with a fair sign.

    Attributes:
      thresholds: int64 `[columns]`, in [0, 2^62].
      aliases: int32 `[columns]`.
    """

    thresholds: np.ndarray
    aliases: np.ndarray

    @property
    def columns(self) -> int:
        """Number of columns, a power of two."""
        return len(self.thresholds)

    @property
    def variance(self) -> float:
        """Variance of the variable that the table draws."""
        return size_variance(self.probabilities())

    def probabilities(self) -> np.ndarray:
        """The probability with which the table draws each size: float64 `[columns]`."""
        shares = self.thresholds.astype(np.float64) / 2.0**COLUMN_BITS
        result = shares.copy()
        np.add.at(result, self.aliases, 1 - shares)
        return result / self.columns


def discrete_gaussian_sizes(scale: float) -> np.ndarray:
    """P(|X| = 0, 1, 2, ...) of N_Z(0, scale²), P(x) ∝ exp(-x²/(2 scale²)).

    Canonne, Kamath and Steinke 2020 (arXiv 2004.00010), Definition 1; scale >= 0.
    """
    if scale == 0:
        return np.ones(1)
    # exp(-x²/2) < 2^-75 from 10.2 on.
    size = np.arange(math.ceil(10.3 * scale) + 2)
    return _normalised(np.exp(-0.5 * (size / scale) ** 2))


def skellam_sizes(variance: float) -> np.ndarray:
    """P(|X| = 0, 1, 2, ...) of the difference of two Poisson(variance/2) variables.

    P(x) = e^-v I_x(v) (Skellam 1946). Neighbouring Bessel functions have the ratio
    r_k = I_k/I_{k-1} = 1/(2k/v + r_{k+1}), which is stable downwards.
    """
    if variance == 0:
        return np.ones(1)
    # Chernoff's bound on the tail is below 2^-75 from here on.
    largest = math.ceil(10.3 * math.sqrt(variance)) + 60
    ratios, ratio = np.empty(largest), 0.0
    for k in range(2 * largest, 0, -1):
        ratio = 1 / (2 * k / variance + ratio)
        if k <= largest:
            ratios[k - 1] = ratio
    return _normalised(np.concatenate([[1.0], np.cumprod(ratios)]))


def _normalised(densities: np.ndarray) -> np.ndarray:
    """Probabilities of sizes, from those of x = 0, 1, ... up to a factor."""
    sizes = densities * np.where(np.arange(len(densities)) == 0, 1.0, 2.0)
    sizes /= math.fsum(sizes)
    return sizes[sizes >= _SMALLEST]


def _columns(sizes: np.ndarray) -> int:
    return 1 << (len(sizes) - 1).bit_length()


def alias_table(sizes: np.ndarray) -> NoiseTable:
    """The table of probabilities `[n]`, each to within 2^-62 over the columns.

    The likeliest size gets the remainder of the rounding. So the distribution of a draw
    is within 2^-62 of `sizes` in total variation.
    """
    columns = _columns(sizes)
    column = 1 << COLUMN_BITS
    total = COLUMN_BITS + columns.bit_length() - 1
    weights = [int(math.ldexp(float(p), total)) for p in sizes]
    weights += [0] * (columns - len(weights))
    weights[int(np.argmax(sizes))] += column * columns - sum(weights)
    thresholds, aliases = [column] * columns, list(range(columns))
    small = [i for i, w in enumerate(weights) if w < column]
    large = [i for i, w in enumerate(weights) if w >= column]
    while small and large:
        poor, rich = small.pop(), large[-1]
        thresholds[poor], aliases[poor] = weights[poor], rich
        weights[rich] -= column - weights[poor]
        if weights[rich] < column:
            small.append(large.pop())
    return NoiseTable(np.array(thresholds, np.int64), np.array(aliases, np.int32))


def size_variance(sizes: np.ndarray) -> float:
    """Σ P(|X| = x) x², of a symmetric variable from its sizes' probabilities."""
    return float(np.sum(sizes * np.arange(len(sizes), dtype=np.float64) ** 2))


def _sizes(mechanism: str, stddev: float) -> np.ndarray:
    if mechanism == "discrete_gaussian":
        return discrete_gaussian_sizes(stddev)
    if mechanism == "skellam":
        return skellam_sizes(stddev**2)
    raise ValueError(
        f"mechanism must be 'discrete_gaussian' or 'skellam', got {mechanism!r}"
    )


@functools.lru_cache(maxsize=8)
def noise_variance(mechanism: str, stddev: float) -> float:
    """The variance of one client's noise; arguments and errors of `noise_table`."""
    return size_variance(_sizes(mechanism, stddev))


@functools.lru_cache(maxsize=8)
def noise_table(mechanism: str, stddev: float) -> NoiseTable:
    """The table of one client's noise.

    Args:
      mechanism: "discrete_gaussian" (`stddev` is σ; for σ below 1 the standard
        deviation is a little less) or "skellam".
      stddev: in quanta, at least 0.

    Raises:
      ValueError: another mechanism.
    """
    return alias_table(_sizes(mechanism, stddev))
