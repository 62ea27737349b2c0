"""Finds banded matrices C whose noise C^-1 ξ has the least error in a workload A.

The workload maps the rounds' sums to the models after each round: for prefix sums, A
is the lower triangle of ones. If the columns of C have norm 1, a client that takes part
once pays as much privacy for x + C^-1 ξ as for x + ξ. The error of the models is
A C^-1 ξ (Choquette-Choo et al. 2023, arXiv 2306.08153). This module does not import
TensorFlow.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Optional

import numpy as np
from scipy import linalg

from tfl_research.privacy.accounting.events.correlated_event import (
    check_positive_integers,
)
from tfl_research.privacy.mechanisms.noise import factor_cache, factor_search

# Up to this many rounds, all entries are optimised; for more rounds, C has constant
# diagonals. Optimising all entries takes 10 to 20 s at 512 rounds. The time grows with
# the cube of the rounds. The error is 1.5% to 2% lower.
DENSE_ROUNDS = 512


@dataclasses.dataclass(frozen=True, eq=False)
class BandedFactor:
    """A lower-triangular C with columns of l2 norm 1.

    Attributes:
      rows: float64 `[rounds, bands]`; `rows[t, j]` is C[t, t-j], and 0 for j > t.

    Raises:
      ValueError: the rows are not such a matrix.
    """

    rows: np.ndarray

    def __post_init__(self) -> None:
        rows = self.rows
        if rows.ndim != 2 or not 1 <= rows.shape[1] <= rows.shape[0]:
            raise ValueError(
                f"rows must be [rounds, bands], bands at most rounds, got {rows.shape}"
            )
        if rows.dtype != np.float64 or not np.isfinite(rows).all():
            raise ValueError("rows must be finite float64 numbers")
        rounds, bands = rows.shape
        before = np.arange(bands) > np.arange(rounds)[:, np.newaxis]
        if rows[before].any():
            raise ValueError("rows must be 0 where the column would be negative")
        if (rows[:, 0] <= 0).any():
            raise ValueError("the diagonal of C must be above 0")
        norms = self.column_norms()
        if np.abs(norms - 1).max() > 1e-9:
            raise ValueError(
                f"columns of C must have norm 1, got {norms.min()} to {norms.max()}"
            )

    @property
    def rounds(self) -> int:
        """Number of rows and of columns of C."""
        return int(self.rows.shape[0])

    @property
    def bands(self) -> int:
        """Number of non-zero diagonals of C."""
        return int(self.rows.shape[1])

    def dense(self) -> np.ndarray:
        """Returns C as float64 `[rounds, rounds]`."""
        return _scatter(self.rows)

    def column_norms(self) -> np.ndarray:
        """Computes the l2 norms of the columns, float64 `[rounds]`."""
        squares = np.zeros(self.rounds)
        for band in range(self.bands):
            squares[: self.rounds - band] += self.rows[band:, band] ** 2
        return np.sqrt(squares)

    def sensitivity(self, max_participations: int) -> float:
        """Computes ‖C u‖ for a client with updates of norm 1 in its rounds.

        The client's rounds are at least `bands` apart, so their columns of C are
        orthogonal. The result is exactly √k times the largest column norm (arXiv
        2306.08153, Theorem 2).
        """
        largest = np.sort(self.column_norms())[::-1][:max_participations]
        return math.sqrt(float((largest**2).sum()))

    def error(self, workload: np.ndarray) -> float:
        """Computes the standard deviation of A C^-1 ξ, as root mean square over rounds.

        Args:
          workload: A, float64 `[rounds, rounds]`, see `workload_matrix`.
        """
        errors = linalg.solve_triangular(
            self.dense(), workload.T, lower=True, trans="T", check_finite=False
        )
        return math.sqrt(float((errors**2).sum()) / self.rounds)


def _scatter(rows: np.ndarray) -> np.ndarray:
    rounds, bands = rows.shape
    dense = np.zeros((rounds, rounds))
    for band in range(bands):
        index = np.arange(band, rounds)
        dense[index, index - band] = rows[band:, band]
    return dense


def workload_matrix(
    rounds: int,
    *,
    momentum: float = 0.0,
    learning_rates: Optional[Sequence[float]] = None,
) -> np.ndarray:
    """Returns A of a server optimizer that is linear in the rounds' sums.

    Entry [i, j] is the weight of round j's sum in the model after round i:
    Σ_{l=j..i} η_l β^(l-j) for momentum β and learning rates η. Plain SGD with a
    constant rate has prefix sums.

    Args:
      rounds: n, at least 1.
      momentum: β in [0, 1).
      learning_rates: η of each round, positive; 1 by default. The optimum does not
        depend on their scale.

    Returns:
      float64 `[rounds, rounds]`, lower triangular.

    Raises:
      ValueError: an argument is outside of its range.
    """
    check_positive_integers(rounds=rounds)
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be at least 0 and below 1, got {momentum}")
    if learning_rates is None:
        rates = np.ones(rounds)
    else:
        rates = np.asarray(learning_rates, np.float64)
        if rates.shape != (rounds,) or not ((rates > 0) & np.isfinite(rates)).all():
            raise ValueError(
                f"learning_rates must be {rounds} positive numbers, one a round"
            )
    ages = np.subtract.outer(np.arange(rounds), np.arange(rounds))
    weights = np.where(ages >= 0, float(momentum) ** np.maximum(ages, 0), 0.0)
    matrix: np.ndarray = np.cumsum(rates[:, np.newaxis] * weights, axis=0)
    return matrix


def banded_factor(
    rounds: int,
    bands: int,
    *,
    momentum: float = 0.0,
    learning_rates: Optional[Sequence[float]] = None,
    cache: bool = True,
) -> BandedFactor:
    """Finds the C of least error; see `BandedFactor.error` and `workload_matrix`.

    Up to 512 rounds, or with learning rates, all entries are optimised: this is a
    convex problem in C^T C (arXiv 2306.08153, section 4). For more rounds, C has
    constant diagonals before its columns are scaled to norm 1. The search then takes
    seconds for tens of thousands of rounds, and the error is up to 2% larger.

    Args:
      rounds: n, at least 1.
      bands: diagonals of C, from 1 (independent noise) to n.
      momentum: β of the server optimizer, in [0, 1).
      learning_rates: η of each round, see `workload_matrix`.
      cache: whether the result is stored in the user's cache folder and read there.

    Raises:
      ValueError: an argument is outside of its range.
    """
    check_positive_integers(rounds=rounds, bands=bands)
    if bands > rounds:
        raise ValueError(f"bands must be at most the {rounds} rounds, got {bands}")
    dense = rounds <= DENSE_ROUNDS or learning_rates is not None
    # `workload_matrix` also checks the arguments.
    workload = workload_matrix(
        rounds if dense else 1, momentum=momentum, learning_rates=learning_rates
    )
    rates = None if learning_rates is None else [float(r) for r in learning_rates]
    key = {
        "rounds": int(rounds),
        "bands": int(bands),
        "momentum": float(momentum),
        "learning_rates": rates,
        "parametrisation": "dense" if dense else "toeplitz",
    }
    if cache:
        stored = factor_cache.load(key, BandedFactor)
        if stored is not None:
            return BandedFactor(stored)
    diagonals = factor_search.best_diagonals(rounds, bands, momentum)
    rows = factor_search.from_diagonals(diagonals, rounds)
    if dense and bands > 1:
        rows = factor_search.best_entries(rows, workload)
    factor = BandedFactor(factor_search.normalised(rows))
    if cache:
        factor_cache.store(key, factor.rows)
    return factor
