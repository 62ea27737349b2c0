"""Rényi bounds of discrete Gaussian and Skellam sums against exact divergences."""

from __future__ import annotations

import dataclasses
import itertools
import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld, rdp
from scipy import stats

from tfl_research.privacy.accounting import events
from tfl_research.privacy.accounting.events import (
    discrete_gaussian_event,
    distributed_event,
)
from tfl_research.privacy.accounting.events.discrete_gaussian_event import (
    DiscreteGaussianEvent,
)
from tfl_research.privacy.accounting.events.skellam_event import SkellamEvent

ORDERS = np.array([2.0, 3.0, 5.0, 8.0, 16.0])
FIXED = {"sampling": "fixed_size", "neighbouring_relation": "replace_one"}
BOTH = [DiscreteGaussianEvent, SkellamEvent]


def event(kind, **changes):
    arguments = {
        "noise_multiplier": 1.0,
        "sampling": "none",
        "population": 100,
        "cohort_size": 10.0,
        "neighbouring_relation": "zero_out",
        "minimum_cohort_size": 10,
        "dimension": 1,
        "l2_sensitivity": 1.0,
    }
    return kind(**{**arguments, **changes})


def discrete_gaussian_pmf(scale, width):
    x = np.arange(-width, width + 1)
    weights = np.exp(-0.5 * (x / scale) ** 2)
    return weights / weights.sum()


def sum_pmf(kind, share_variance, shares, width=400):
    """Exact distribution of a sum of shares, on -width..width."""
    if kind is SkellamEvent:
        half = shares * share_variance / 2
        return stats.skellam.pmf(np.arange(-width, width + 1), half, half)
    one = discrete_gaussian_pmf(math.sqrt(share_variance), width)
    total = one
    for _ in range(shares - 1):
        total = np.convolve(total, one)[width:-width]
    return total


def divergence(p, q, order):
    """D_order(p || q), left out where both vanish."""
    both = (p > 1e-280) & (q > 1e-280)
    logs = order * np.log(p[both]) + (1 - order) * np.log(q[both])
    return np.logaddexp.reduce(logs) / (order - 1)


def shifted_divergence(pmf, shift, order):
    if shift == 0:
        return 0.0
    return divergence(pmf[: -abs(shift)], pmf[abs(shift) :], order)


class TestOneRound:
    @pytest.mark.parametrize("kind", BOTH)
    @pytest.mark.parametrize("variance", [0.5, 2.0, 9.0, 30.0])
    @pytest.mark.parametrize("shares", [1, 4])
    @pytest.mark.parametrize("shift", [(1,), (3,), (1, 1, 1, 1), (2, 1, 0, 1)])
    def test_bounds_the_exact_divergence(self, kind, variance, shares, shift):
        l2 = math.sqrt(sum(s * s for s in shift))
        pmf = sum_pmf(kind, variance, shares)
        exact = np.array(
            [sum(shifted_divergence(pmf, s, order) for s in shift) for order in ORDERS]
        )
        one = event(
            kind,
            noise_multiplier=math.sqrt(shares * variance) / l2,
            minimum_cohort_size=shares,
            dimension=len(shift),
            l2_sensitivity=l2,
        )
        found = one.rdp(1, ORDERS)
        assert np.all(found >= exact - 1e-12)
        # Close where shift and order are small for the noise: Skellam's tails gain.
        if shares * variance >= 8:
            assert found[0] <= 1.35 * exact[0]
        if shares * variance >= 30:
            assert np.all(found[:3] <= 1.2 * exact[:3])

    def test_discrete_gaussian_by_hand(self):
        # σ = 2, n = 3, d = 4, Δ₂ = 2: τ = 10 (e^{-4π²} + e^{-16π²/3}).
        tau = discrete_gaussian_event.tau(2.0, 3)
        assert tau == pytest.approx(10 * (math.exp(-39.4784176) + math.exp(-52.637890)))
        one = event(
            DiscreteGaussianEvent,
            noise_multiplier=2 * math.sqrt(3) / 2,
            minimum_cohort_size=3,
            dimension=4,
            l2_sensitivity=2.0,
        )
        np.testing.assert_allclose(one.rdp(1, ORDERS), ORDERS * 4 / 24, rtol=1e-12)
        assert one.zcdp(5) == pytest.approx(5 * 4 / 24)

    def test_many_small_shares_cost_what_the_gap_says(self):
        # σ = 0.5: τ = 10 Σ exp(-π²/2 · k/(k+1)), all three bounds by hand.
        shares, l2 = 6, 3.0
        tau = 10 * sum(math.exp(-(math.pi**2) / 2 * k / (k + 1)) for k in range(1, 6))
        scale = 0.5 * math.sqrt(shares)
        one = event(
            DiscreteGaussianEvent,
            noise_multiplier=scale / l2,
            minimum_cohort_size=shares,
            dimension=2,
            l2_sensitivity=l2,
        )
        l1 = l2 * math.sqrt(2)
        a = 3.0
        bounds = [
            a * (l2 / scale) ** 2 / 2 + 2 * tau,
            a / 2 * ((l2 / scale) ** 2 + 2 * l1 / scale * tau + 2 * tau**2),
            a / 2 * (l2 / scale + math.sqrt(2) * tau) ** 2,
        ]
        assert one.rdp(1, np.array([a]))[0] == pytest.approx(min(bounds))

    def test_too_small_shares_have_no_bound(self):
        one = event(DiscreteGaussianEvent, noise_multiplier=1.0)
        assert one.share_stddev < 0.5
        assert np.isinf(one.rdp(1, ORDERS)).all()
        assert one.epsilon(1, 1e-5, "rdp") == one.zcdp(1) == math.inf

    def test_skellam_by_hand(self):
        # μ = 10, Δ₁ = Δ₂ = 1, α = 2: 2/20 + min(9/400, 3/20).
        one = event(SkellamEvent, noise_multiplier=math.sqrt(10))
        assert one.rdp(1, np.array([2.0]))[0] == pytest.approx(0.1 + 9 / 400)
        # Order 1000: min((1999 + 6)/400, 3/20) takes the second.
        assert one.rdp(1, np.array([1000.0]))[0] == pytest.approx(50 + 3 / 20)
        # Between whole orders the bound of the next one.
        found = one.rdp(1, np.array([1.1, 2.5, 3.0]))
        assert found[1] == found[2]
        assert found[0] == pytest.approx(0.1225)
        assert one.zcdp(1) == math.inf

    @pytest.mark.parametrize("kind", BOTH)
    def test_fine_grids_cost_what_the_gaussian_costs(self, kind):
        one = event(kind, noise_multiplier=2.0, dimension=2**17, l2_sensitivity=3e4)
        expected = ORDERS / (2 * 2.0**2)
        np.testing.assert_allclose(one.rdp(1, ORDERS), expected, rtol=1e-3)
        assert np.all(one.rdp(1, ORDERS) >= expected * (1 - 1e-12))

    @pytest.mark.parametrize("kind", BOTH)
    def test_replace_one_doubles_the_sensitivity(self, kind):
        fine = {"dimension": 64, "l2_sensitivity": 1e4}
        one = event(kind, noise_multiplier=2.0, **fine)
        other = event(
            kind, noise_multiplier=2.0, neighbouring_relation="replace_one", **fine
        )
        ratio = other.rdp(1, ORDERS) / one.rdp(1, ORDERS)
        np.testing.assert_allclose(ratio, 4, rtol=1e-3)

    def test_one_discrete_gaussian_against_its_privacy_loss_distribution(self):
        one = event(DiscreteGaussianEvent, noise_multiplier=3.0, minimum_cohort_size=1)
        exact = pld.privacy_loss_distribution.from_discrete_gaussian_mechanism(3.0, 1)
        for rounds in (1, 10):
            least = exact.self_compose(rounds).get_epsilon_for_delta(1e-5)
            found = one.epsilon(rounds, 1e-5, "rdp")
            assert least <= found <= 1.15 * least


class TestRounds:
    @pytest.mark.parametrize("kind", BOTH)
    def test_rounds_add_up(self, kind):
        one = event(kind, noise_multiplier=5.0, dimension=8, l2_sensitivity=100.0)
        np.testing.assert_allclose(one.rdp(7, ORDERS), 7 * one.rdp(1, ORDERS))
        curve = one.epsilon_curve(7, 1e-5, "rdp")
        assert curve.shape == (7,)
        assert np.all(np.diff(curve) > 0)
        np.testing.assert_array_equal(one.epsilon_curve(3, 1e-5, "rdp"), curve[:3])
        assert one.epsilon(7, 1e-5, "rdp") == curve[-1]

    def test_fine_grid_has_the_epsilon_of_a_gaussian(self):
        one = event(
            DiscreteGaussianEvent,
            noise_multiplier=4.0,
            dimension=1024,
            l2_sensitivity=1e4,
        )
        gaussian = rdp.RdpAccountant()
        gaussian.compose(dp_accounting.GaussianDpEvent(4.0), 30)
        expected = gaussian.get_epsilon(1e-6)
        assert one.epsilon(30, 1e-6, "rdp") == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("kind", BOTH)
    def test_no_noise_is_no_privacy(self, kind):
        one = event(kind, noise_multiplier=0.0)
        assert np.isinf(one.epsilon_curve(3, 1e-5, "rdp")).all()
        assert np.isinf(one.rdp(1, ORDERS)).all()
        assert one.zcdp(1) == math.inf

    @pytest.mark.parametrize("kind", BOTH)
    def test_accountants(self, kind):
        one = event(kind, noise_multiplier=5.0)
        assert one.accountants == ("rdp",)
        with pytest.raises(ValueError, match="use 'rdp'"):
            one.epsilon_curve(3, 1e-5, "pld")
        with pytest.raises(ValueError, match="delta"):
            one.epsilon(3, 0.0, "rdp")


class TestSampling:
    def test_brute_force_on_a_small_population(self):
        """Every subset of 2 of 4 clients with updates 0 or ±1, exactly."""
        variance, orders = 3.0, np.arange(2.0, 9.0)
        pmf = sum_pmf(DiscreteGaussianEvent, variance, 2, width=120)
        subsets = list(itertools.combinations(range(4), 2))

        def released(updates):
            mixture = np.zeros_like(pmf)
            for subset in subsets:
                mixture += np.roll(pmf, sum(updates[i] for i in subset))
            return mixture / len(subsets)

        one = event(
            DiscreteGaussianEvent,
            noise_multiplier=math.sqrt(2 * variance),
            population=4,
            cohort_size=2.0,
            minimum_cohort_size=2,
            **FIXED,
        )
        found = one.rdp(1, orders)
        amplification = 0.0
        for others in itertools.product((-1, 0, 1), repeat=3):
            for mine, theirs in itertools.permutations((-1, 0, 1), 2):
                p, q = released((*others, mine)), released((*others, theirs))
                exact = np.array([divergence(p, q, order) for order in orders])
                assert np.all(exact <= found)
                amplification = max(amplification, exact[0] / found[0])
        assert amplification > 0.2
        unsampled = dataclasses.replace(one, sampling="none")
        assert np.all(found <= unsampled.rdp(1, orders))

    def test_bound_by_hand(self):
        # α = 3, γ = 1/4, ε(2) = 0.5, ε(3) = 0.9:
        # 1 + γ²·3·min(4(e^.5 - 1), 2e^.5) + γ³·2e^{1.8}, log of it over 2.
        total = 1 + 3 / 16 * min(4 * (math.exp(0.5) - 1), 2 * math.exp(0.5))
        total += 2 * math.exp(1.8) / 64
        found = distributed_event.sampled_without_replacement(
            np.array([0.5, 0.9]), 0.25
        )
        assert found[1] == pytest.approx(math.log(total) / 2)
        first = math.log(1 + min(4 * (math.exp(0.5) - 1), 2 * math.exp(0.5)) / 16)
        assert found[0] == pytest.approx(first)

    def test_against_the_bound_for_the_gaussian(self):
        """dp-accounting has a bound for the Gaussian alone; the general one is above
        it, by little in the regime of training."""
        one = event(
            DiscreteGaussianEvent,
            noise_multiplier=4.0,
            population=1000,
            dimension=64,
            l2_sensitivity=1e4,
            **FIXED,
        )
        gaussian = rdp.RdpAccountant(
            neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_ONE
        )
        gaussian.compose(
            dp_accounting.SampledWithoutReplacementDpEvent(
                1000, 10, dp_accounting.GaussianDpEvent(2.0)
            ),
            200,
        )
        expected = gaussian.get_epsilon(1e-5)
        assert expected * 0.999 <= one.epsilon(200, 1e-5, "rdp") <= 1.6 * expected

    @pytest.mark.parametrize("kind", BOTH)
    def test_sampling_everybody_changes_nothing(self, kind):
        whole = event(
            kind,
            noise_multiplier=9.0,
            population=10,
            l2_sensitivity=50.0,
            **FIXED,
        )
        plain = dataclasses.replace(whole, sampling="none")
        np.testing.assert_array_equal(whole.rdp(1, ORDERS), plain.rdp(1, ORDERS))


class TestPlainData:
    @pytest.mark.parametrize("kind", BOTH)
    def test_json_and_back(self, kind):
        one = event(kind, noise_multiplier=5.0)
        fields = one.to_dict()
        assert fields["kind"] == kind.kind
        assert events.event_from_dict(fields) == one
        assert one.unit == "client"

    @pytest.mark.parametrize("kind", BOTH)
    def test_statement_names_paper_relation_and_dropout(self, kind):
        text = " ".join(event(kind).description())
        paper = {"discrete_gaussian": "2102.06387", "skellam": "2110.04995"}[kind.kind]
        assert paper in text
        assert "zero-out" in text
        assert "fewer reporting clients releases nothing" in text
        assert "no amplification" in text

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"noise_multiplier": math.nan}, "noise_multiplier must be"),
            ({"sampling": "poisson"}, "sampling must be one of"),
            ({"neighbouring_relation": "add_or_remove_one"}, "must be one of"),
            ({"sampling": "fixed_size"}, "under replace_one"),
            ({"cohort_size": 101.0}, r"cohort_size must be in \(0, 100\]"),
            ({"minimum_cohort_size": 0}, "must be at least 1"),
            ({"dimension": 0}, "must be at least 1"),
            ({"l2_sensitivity": 0.0}, "l2_sensitivity must be positive"),
        ],
    )
    def test_bad_fields(self, changes, message):
        with pytest.raises(ValueError, match=message):
            event(SkellamEvent, **changes)
