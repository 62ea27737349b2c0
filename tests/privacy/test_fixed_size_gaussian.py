"""Divergences over cohorts of a fixed size: no digits lost, at any order or noise."""

from __future__ import annotations

import decimal
import functools
import math

import numpy as np
import pytest
from dp_accounting.rdp import rdp_privacy_accountant

from tfl_research.privacy import fixed_size_gaussian, renyi

ORDERS = renyi.default_orders()


@functools.cache
def moment(sigma, k):
    return (decimal.Decimal(k * (k - 1)) / (2 * decimal.Decimal(sigma) ** 2)).exp()


def exact_log_moment(sigma, power):
    """log of the alternating sum, in 400 digits."""
    with decimal.localcontext() as context:
        context.prec = 400
        total = sum(
            (-1) ** (power - k) * math.comb(power, k) * moment(sigma, k)
            for k in range(power + 1)
        )
        return float(total.ln())


@pytest.mark.parametrize("sigma", [0.05, 0.4, 1.0, 3.0, 20.0, 1000.0])
def test_moments_are_the_alternating_sums(sigma):
    found = fixed_size_gaussian._log_even_moments(sigma, 40)
    assert found.shape == (41,)
    assert found[0] == 0
    # By hand: E[(P/Q - 1)²] = e^{1/σ²} - 1.
    by_hand = sigma**-2 + math.log(-math.expm1(-(sigma**-2)))
    assert found[1] == pytest.approx(by_hand, rel=1e-12)
    for half in (2, 3, 8, 40):
        expected = exact_log_moment(sigma, 2 * half)
        assert found[half] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("sigma", "rate"), [(0.3, 0.2), (1.0, 0.01), (4.0, 0.05)])
def test_are_those_of_dp_accounting_where_it_keeps_its_digits(sigma, rate):
    """Which leaves a part of the bound out above order 256."""
    found = fixed_size_gaussian.divergences(sigma, rate, ORDERS)
    theirs = rdp_privacy_accountant._compute_rdp_sample_wor_gaussian(
        rate, sigma, ORDERS
    )
    low = ORDERS <= 256
    np.testing.assert_allclose(found[low], theirs[low], rtol=1e-9)
    assert (found[~low] <= theirs[~low] * (1 + 1e-12)).all()
    # Between whole orders 1 and 2 the bound is flat.
    assert (np.diff(found[ORDERS >= 2]) > 0).all()


def test_order_two_by_hand():
    # log(1 + q² min(4(e^{1/σ²} - 1), 2e^{1/σ²})). At order 1.5, (α - 1)·divergence is
    # half of that, over α - 1 = 1/2.
    for sigma in (0.5, 2.0):
        ratio = math.exp(sigma**-2)
        expected = math.log1p(0.1**2 * min(4 * (ratio - 1), 2 * ratio))
        found = fixed_size_gaussian.divergences(sigma, 0.1, np.array([1.5, 2.0]))
        np.testing.assert_allclose(found, [expected, expected], rtol=1e-12)


def test_much_noise_at_a_high_order():
    """Where differences in floating point are noise: dp-accounting says 0.41."""
    sigma, rate, order = 16.0, 0.5, 128
    moments = [0.0] + [exact_log_moment(sigma, 2 * k) for k in range(1, 65)]
    total = 1.0
    for i in range(2, order + 1):
        mixed = math.log(4) + (moments[i // 2] + moments[(i + 1) // 2]) / 2
        simple = math.log(2) + i * (i - 1) / (2 * sigma**2)
        total += rate**i * math.comb(order, i) * math.exp(min(mixed, simple))
    found = fixed_size_gaussian.divergences(sigma, rate, np.array([float(order)]))
    assert found[0] == pytest.approx(math.log(total) / (order - 1), rel=1e-12)
