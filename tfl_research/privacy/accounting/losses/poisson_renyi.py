"""Computes Rényi divergences of a Gaussian on a Poisson sample of the clients.

Mironov, Talwar and Zhang 2019 (arXiv 1908.10530), section 3.3: a divergence of order α
is log(A) / (α - 1). A is a sum of α + 1 terms for whole numbers α, and two infinite
series for other numbers. Many terms are computed at once, in the order of arithmetic of
dp-accounting 0.4.3, so that the results have the same bits.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

# A series ends with the first terms below e^-30, as in dp-accounting.
_LAST = -30.0
# The number of terms of a series that are first computed at once.
_TERMS = 128


def poisson_sampled(
    noise_multiplier: float, sampling_rate: float, orders: np.ndarray
) -> np.ndarray:
    """Computes the divergences for removing or adding one client.

    Args:
      noise_multiplier: σ over the sensitivity, above 0.
      sampling_rate: q, in (0, 1).
      orders: float64 `[orders]`, above 1 and finite.

    Returns:
      float64 `[orders]`.

    Raises:
      ArithmeticError: the terms of a series cancel each other.
    """
    sigma, q = float(noise_multiplier), float(sampling_rate)
    found = []
    for order in map(float, orders):
        whole = order.is_integer()
        log_a = _of_whole if whole else _of_fraction
        found.append(log_a(q, sigma, order) / (order - 1))
    return np.array(found, np.float64)


def _of_whole(q: float, sigma: float, order: float) -> float:
    """Computes log(A) of a whole order, by the binomial sum."""
    i = np.arange(order + 1)
    logs = (
        special.gammaln(order + 1)
        - special.gammaln(i + 1)
        - special.gammaln(order - i + 1)
    )
    logs = logs + i * math.log(q) + (order - i) * math.log(1 - q)
    logs = logs + (i * i - i) / (2 * (sigma**2))
    total = -math.inf
    for term in logs.tolist():
        total = _plus(total, term)
    return total


def _of_fraction(q: float, sigma: float, order: float) -> float:
    """Computes log(A) of an order that is no whole number, by two series.

    The series are those of the integrals up to z0 and from z0 on.
    """
    below, above = -math.inf, -math.inf
    first, count = 0, _TERMS
    while True:
        signs, *logs = _terms(q, sigma, order, np.arange(first, first + count))
        for is_positive, one, other in zip(signs, *logs):
            if is_positive:
                below, above = _plus(below, one), _plus(above, other)
            else:
                below, above = _minus(below, one), _minus(above, other)
            if max(one, other) < _LAST:
                return _plus(below, above)
        first, count = first + count, 2 * count


def _terms(
    q: float, sigma: float, order: float, numbers: np.ndarray
) -> tuple[list[bool], list[float], list[float]]:
    """Computes terms of both series: whether they are positive, and their logarithms.

    Args:
      q, sigma, order: see `poisson_sampled`.
      numbers: int64 `[n]`, from 0 on.

    Raises:
      ArithmeticError: a binomial coefficient is 0 in float64.
    """
    i = numbers.astype(np.float64)
    j = order - i
    coefficients = special.binom(order, i)
    if not coefficients.all():
        raise ArithmeticError(f"a binomial coefficient of order {order} is too small")
    # dp-accounting uses Python's logarithm; NumPy's can differ in the last digits.
    sizes = np.array([math.log(c) for c in np.abs(coefficients).tolist()])
    z0 = sigma**2 * math.log(1 / q - 1) + 0.5
    scale = math.sqrt(2) * sigma
    logs = []
    for share, rest, part, ends in (
        (i, j, i, (i - z0) / scale),
        (j, i, j, (z0 - j) / scale),
    ):
        weights = sizes + share * math.log(q) + rest * math.log(1 - q)
        tails = math.log(0.5) + (math.log(2) + special.log_ndtr(-ends * 2**0.5))
        terms = weights + (part * part - part) / (2 * (sigma**2)) + tails
        logs.append(terms.tolist())
    return (coefficients > 0).tolist(), logs[0], logs[1]


def _plus(x: float, y: float) -> float:
    """Computes log(e^x + e^y)."""
    low, high = (x, y) if x < y else (y, x)
    if low == -math.inf:
        return high
    return math.log1p(math.exp(low - high)) + high


def _minus(x: float, y: float) -> float:
    """Computes log(e^x - e^y).

    Raises:
      ArithmeticError: y is above x.
    """
    if x < y:
        raise ArithmeticError(f"log(e^{x} - e^{y}) does not exist")
    if y == -math.inf:
        return x
    if x == y:
        return -math.inf
    try:
        return math.log(math.expm1(x - y)) + y
    except OverflowError:
        return x
