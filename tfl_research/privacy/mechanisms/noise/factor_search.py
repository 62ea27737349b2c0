"""Searches for banded matrices of least error; see `factorization`.

A matrix is given by its rows, float64 `[rounds, bands]`: entry [t, j] is C[t, t-j], and
0 for j > t.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg, optimize, signal

_MOST_ITERATIONS = 200


def from_diagonals(diagonals: np.ndarray, rounds: int) -> np.ndarray:
    """Returns the rows of C with constant diagonals, float64 `[rounds, bands]`."""
    rows = np.tile(diagonals, (rounds, 1))
    rows[np.arange(len(diagonals)) > np.arange(rounds)[:, np.newaxis]] = 0
    return rows


def normalised(rows: np.ndarray) -> np.ndarray:
    """Scales the columns to norm 1."""
    rounds, bands = rows.shape
    squares = np.zeros(rounds)
    for band in range(bands):
        squares[: rounds - band] += rows[band:, band] ** 2
    scaled = rows.copy()
    for band in range(bands):
        scaled[band:, band] /= np.sqrt(squares[: rounds - band])
    return scaled


def best_diagonals(rounds: int, bands: int, momentum: float) -> np.ndarray:
    """Finds diagonals c, c_0 = 1, that minimise ‖c‖² ‖A C^-1‖², float64 `[bands]`.

    The search begins at the square root of A. If C may have all diagonals, the square
    root is within a few percent of the optimum (Fichtenberger et al. 2022, arXiv
    2202.11205).
    """
    ages = np.arange(rounds)
    workload = (1 - momentum ** (ages + 1)) / (1 - momentum)
    # A^(1/2) has the generating function ((1 - x) (1 - βx))^(-1/2).
    root = signal.fftconvolve(
        _binomial_series(bands, 1.0), _binomial_series(bands, momentum)
    )[:bands]
    if bands == 1:
        return root
    counts = (rounds - ages).astype(np.float64)

    def loss(tail: np.ndarray) -> tuple[float, np.ndarray]:
        diagonals = np.concatenate([[1.0], tail])
        # The first columns of A C^-1 and of A C^-2.
        once = signal.lfilter([1.0], diagonals, workload)
        twice = signal.lfilter([1.0], diagonals, once)
        norm, error = diagonals @ diagonals, counts @ once**2
        slope = signal.fftconvolve(counts * once, twice[::-1])
        slope = -2 * slope[rounds - 1 : rounds - 1 + bands]
        value = norm * error / scale
        return value, ((slope * norm + 2 * diagonals * error) / scale)[1:]

    scale = 1.0
    scale = loss(root[1:])[0]
    solution = optimize.minimize(
        loss, root[1:], jac=True, method="L-BFGS-B", options={"maxiter": 500}
    )
    return np.concatenate([[1.0], solution.x])


def _binomial_series(length: int, ratio: float) -> np.ndarray:
    """Returns the coefficients of (1 - ratio x)^(-1/2)."""
    index = np.arange(1, length)
    return np.concatenate([[1.0], np.cumprod(ratio * (2 * index - 1) / (2 * index))])


def best_entries(start: np.ndarray, workload: np.ndarray) -> np.ndarray:
    """Finds the best entries of C, beginning at `start`, float64 `[rounds, bands]`.

    The columns of the result are not scaled. The objective scales the columns, so the
    search has no constraints; logarithms keep the diagonal positive. With B = A C^-1,
    the slope of ‖B‖² in C is -2 B^T B C^-T.
    """
    rounds, bands = start.shape
    inside = np.arange(bands) <= np.arange(rounds)[:, np.newaxis]
    row, band = np.nonzero(inside)
    column = row - band
    diagonal = band == 0
    dense = np.zeros((rounds, rounds))

    def entries(variables: np.ndarray) -> np.ndarray:
        return np.where(diagonal, np.exp(np.where(diagonal, variables, 0)), variables)

    def loss(variables: np.ndarray) -> tuple[float, np.ndarray]:
        values = entries(variables)
        norms = np.sqrt(np.bincount(column, values**2, rounds))
        scaled = values / norms[column]
        dense[row, column] = scaled
        errors = linalg.solve_triangular(
            dense, workload.T, lower=True, trans="T", check_finite=False
        )
        again = linalg.solve_triangular(dense, errors, lower=True, check_finite=False)
        slope = -2 * (errors @ again.T)[row, column]
        radial = np.bincount(column, slope * scaled, rounds)
        slope = (slope - scaled * radial[column]) / norms[column]
        slope = np.where(diagonal, slope * values, slope)
        return float((errors**2).sum()) / scale, slope / scale

    begin = start[row, band]
    begin = np.where(diagonal, np.log(np.where(diagonal, begin, 1)), begin)
    scale = 1.0
    scale = loss(begin)[0]
    solution = optimize.minimize(
        loss,
        begin,
        jac=True,
        method="L-BFGS-B",
        options={
            "maxiter": _MOST_ITERATIONS,
            "maxcor": 20,
            "ftol": 1e-7,
            "gtol": 1e-9,
        },
    )
    best = np.zeros_like(start)
    best[row, band] = entries(solution.x)
    return best
