"""Rényi divergences under Poisson sampling are dp-accounting's to the last bit."""

from __future__ import annotations

import math
from importlib import metadata

import dp_accounting
import numpy as np
import pytest
from dp_accounting import rdp
from scipy import integrate

from tfl_research.privacy.accounting.events import gaussian_event
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.accounting.losses import poisson_renyi, renyi

ORDERS = renyi.default_orders()


def of_dp_accounting(sigma, q):
    accountant = rdp.RdpAccountant(orders=tuple(map(float, ORDERS)))
    noise = dp_accounting.GaussianDpEvent(sigma)
    accountant.compose(dp_accounting.PoissonSampledDpEvent(q, noise))
    return np.asarray(accountant.rdp)


@pytest.mark.skipif(
    not metadata.version("dp-accounting").startswith("0.4."),
    reason="later releases give other values at fractional orders below 3",
)
@pytest.mark.parametrize("sigma", [0.01, 0.3, 0.458, 1.077, 5.0, 1000.0])
@pytest.mark.parametrize("q", [1e-6, 0.01, 0.5, 0.99])
def test_the_bits_are_dp_accountings(sigma, q):
    ours = poisson_renyi.poisson_sampled(sigma, q, ORDERS)
    np.testing.assert_array_equal(ours, of_dp_accounting(sigma, q))


@pytest.mark.parametrize("order", [1.5, 2.0, 2.5, 7.3, 12.0])
def test_the_integral_is_the_same(order):
    sigma, q = 1.3, 0.2

    def integrand(x):
        ratio = 1 - q + q * math.exp((2 * x - 1) / (2 * sigma**2))
        return (
            math.exp(-((x / sigma) ** 2) / 2)
            / (sigma * math.sqrt(2 * math.pi))
            * ratio**order
        )

    expected = math.log(integrate.quad(integrand, -40, 60, limit=500)[0]) / (order - 1)
    (found,) = poisson_renyi.poisson_sampled(sigma, q, np.array([order]))
    assert found == pytest.approx(expected, rel=1e-7)


def test_where_the_series_cancel_dp_accounting_decides(monkeypatch):
    def fails(*given):
        raise ArithmeticError("cancelled")

    event = GaussianEvent.poisson(1.25, 0.3)
    monkeypatch.setattr(poisson_renyi, "poisson_sampled", fails)
    gaussian_event._round_rdp.cache_clear()
    found = event.rdp(3, ORDERS)
    np.testing.assert_array_equal(found, 3 * of_dp_accounting(1.25, 0.3))
    gaussian_event._round_rdp.cache_clear()


def test_a_difference_below_zero_is_refused():
    with pytest.raises(ArithmeticError, match="does not exist"):
        poisson_renyi._minus(1.0, 2.0)
    assert poisson_renyi._minus(2.0, 2.0) == -math.inf
    assert poisson_renyi._minus(1000.0, 0.0) == 1000.0
    assert poisson_renyi._minus(1.0, -math.inf) == 1.0
    assert poisson_renyi._plus(-math.inf, -math.inf) == -math.inf
