"""Makes tables from which integer noise is drawn exactly, by integer arithmetic."""

from __future__ import annotations

import dataclasses
import decimal
import functools
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Union

import numpy as np

# A column of the table holds 2^62 units of probability, so thresholds fit into int64.
COLUMN_BITS = 62
# All sizes that are never drawn have at most this probability together.
_NEVER = Decimal(2) ** -64
# Sizes with a smaller probability are never drawn.
_SMALLEST = Decimal(2) ** -75
# Decimal arithmetic with 50 digits: float64 would have larger errors than the rounding
# to a table.
_EXACT = decimal.Context(prec=50)


@dataclasses.dataclass(frozen=True)
class NoiseTable:
    """An alias table (Walker 1977; Vose 1991) of a symmetric integer variable's size.

    A draw takes a uniform column and a uniform 62-bit number. The size is the column if
    the number is below the column's threshold, and otherwise the column's alias. The
    variable is the size with a random sign.

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
        """Computes the table's probability of each size, float64 `[columns]`."""
        shares = self.thresholds.astype(np.float64) / 2.0**COLUMN_BITS
        result = shares.copy()
        np.add.at(result, self.aliases, 1 - shares)
        return result / self.columns


def discrete_gaussian_sizes(scale: float) -> list[Decimal]:
    """Computes P(|X| = 0, 1, 2, ...) of N_Z(0, scale²), P(x) ∝ exp(-x²/(2 scale²)).

    Canonne, Kamath and Steinke 2020 (arXiv 2004.00010), Definition 1; scale >= 0.
    """
    if scale == 0:
        return [Decimal(1)]
    with decimal.localcontext(_EXACT):
        # The ratio P(x + 1) / P(x) is q^(2x+1), q = exp(-1/(2 scale²)).
        factor = (Decimal(-1) / (2 * Decimal(scale) ** 2)).exp()
        density, densities, squared = Decimal(1), [Decimal(1)], factor * factor
        # exp(-x²/2) < 2^-75 for x from 10.2 on.
        for _ in range(math.ceil(10.3 * scale) + 1):
            density *= factor
            factor *= squared
            densities.append(density)
        return _normalised(densities)


def skellam_sizes(stddev: float) -> list[Decimal]:
    """Computes P(|X| = 0, 1, ...) of a difference of two Poisson(stddev²/2) variables.

    P(x) = e^-v I_x(v), v = stddev² (Skellam 1946). Neighbouring Bessel functions have
    the ratio r_k = I_k/I_{k-1} = 1/(2k/v + r_{k+1}), which is stable downwards.
    """
    if stddev == 0:
        return [Decimal(1)]
    # Chernoff's bound on the tail is below 2^-75 from here on.
    largest = math.ceil(10.3 * stddev) + 60
    with decimal.localcontext(_EXACT):
        step, ratio = 2 / Decimal(stddev) ** 2, Decimal(0)
        ratios = [ratio] * largest
        for k in range(2 * largest, 0, -1):
            ratio = 1 / (k * step + ratio)
            if k <= largest:
                ratios[k - 1] = ratio
        densities = [Decimal(1)]
        for ratio in ratios:
            densities.append(densities[-1] * ratio)
        return _normalised(densities)


def _normalised(densities: Sequence[Decimal]) -> list[Decimal]:
    """Computes probabilities of sizes from unnormalised ones of x = 0, 1, ...."""
    sizes = [densities[0], *(2 * density for density in densities[1:])]
    total = sum(sizes)
    least = min(_SMALLEST, _NEVER / len(sizes))
    return [share for share in (size / total for size in sizes) if share >= least]


def _columns(sizes: Sequence[object]) -> int:
    return 1 << (len(sizes) - 1).bit_length()


def alias_table(sizes: Sequence[Decimal]) -> NoiseTable:
    """Makes the table; each probability has an error of at most 2^-62 over the columns.

    The likeliest size gets the remainder of the rounding. So the distribution of a draw
    is within 2^-62 of `sizes` in total variation, and within 2^-61 of the exact
    variable, since the sizes that are left out have at most 2^-63 together.
    """
    columns = _columns(sizes)
    column = 1 << COLUMN_BITS
    with decimal.localcontext(_EXACT):
        weights = [int(share * (column * columns)) for share in sizes]
    likeliest = weights.index(max(weights))
    weights += [0] * (columns - len(weights))
    weights[likeliest] += column * columns - sum(weights)
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


def size_variance(sizes: Union[Sequence[Decimal], np.ndarray]) -> float:
    """Computes the variance Σ P(|X| = x) x² of a symmetric variable."""
    shares = np.array([float(share) for share in sizes])
    return float(np.sum(shares * np.arange(len(sizes), dtype=np.float64) ** 2))


def _sizes(mechanism: str, stddev: float) -> list[Decimal]:
    if mechanism == "discrete_gaussian":
        return discrete_gaussian_sizes(stddev)
    if mechanism == "skellam":
        return skellam_sizes(stddev)
    raise ValueError(
        f"mechanism must be 'discrete_gaussian' or 'skellam', got {mechanism!r}"
    )


@functools.lru_cache(maxsize=8)
def noise_variance(mechanism: str, stddev: float) -> float:
    """Computes the variance of one client's noise; arguments as in `noise_table`.

    Raises:
      ValueError: the mechanism is unknown.
    """
    return size_variance(_sizes(mechanism, stddev))


@functools.lru_cache(maxsize=8)
def noise_table(mechanism: str, stddev: float) -> NoiseTable:
    """Makes the table of one client's noise.

    Args:
      mechanism: "discrete_gaussian" (`stddev` is σ; for σ below 1 the standard
        deviation is a little less) or "skellam".
      stddev: standard deviation in quanta, at least 0.

    Raises:
      ValueError: the mechanism is unknown.
    """
    return alias_table(_sizes(mechanism, stddev))
