"""Grid, noise shares and modulus: by hand, by simulation, and at their limits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tfl_research.privacy.accounting import distributed_plan
from tfl_research.privacy.accounting.distributed_calibration import (
    calibrate_distributed,
)
from tfl_research.privacy.accounting.distributed_plan import (
    plan_distributed,
    squared_norm_bound,
)

SETTINGS = {"noise_multiplier": 1.0, "dimension": 1000, "cohort_size": 50, "bits": 16}


def plan(mechanism="skellam", **changes):
    return plan_distributed(mechanism, **{**SETTINGS, **changes})


class TestNormBound:
    def test_by_hand(self):
        # β = e^(-1/2): √(2 log(1/β)) = 1, so 100 + 16/4 + (10 + 2) against (10 + 4)².
        assert squared_norm_bound(10.0, 16, math.exp(-0.5)) == 116
        assert squared_norm_bound(10.0, 16, 0.0) == 196
        # A short vector: (0.5 + 4)² = 20.25 against 4.25 + 2.5.
        assert squared_norm_bound(0.5, 16, math.exp(-0.5)) == 6

    def test_randomised_rounding_stays_below_it_as_often_as_promised(self):
        generator = np.random.default_rng(0)
        for clip, dimension in [(3.0, 64), (40.0, 64), (40.0, 1024)]:
            vector = generator.normal(size=dimension)
            vector *= clip / np.linalg.norm(vector)
            up = generator.random((4000, dimension)) < vector - np.floor(vector)
            norms = ((np.floor(vector) + up) ** 2).sum(axis=1)
            for bias in (math.exp(-0.5), 0.1):
                bound = squared_norm_bound(clip, dimension, bias)
                # 5 standard errors of a share of 4000: false alarm 3e-7.
                assert np.mean(norms <= bound) >= 1 - bias - 5 * 0.5 / math.sqrt(4000)


class TestPlan:
    @pytest.mark.parametrize("mechanism", ["discrete_gaussian", "skellam"])
    def test_noise_is_relative_to_the_sensitivity_after_rounding(self, mechanism):
        made = plan(mechanism, minimum_cohort_size=40)
        assert made.padded_dimension == 1024
        total = made.share_stddev * math.sqrt(40)
        assert total == pytest.approx(1.0 * made.l2_sensitivity, rel=1e-12)
        event = made.event(population=500)
        assert event.share_stddev == pytest.approx(made.share_stddev, rel=1e-12)
        assert event.l2_sensitivity == made.l2_sensitivity > made.clip_quanta

    def test_grid_is_the_finest_that_fits(self):
        def half_range(made):
            spread = (made.clip_quanta * 50) ** 2 / 1024
            spread += (0.25 + made.share_stddev**2) * 50
            return 4 * math.sqrt(spread)

        made = plan()
        assert half_range(made) == pytest.approx(2**15, rel=1e-5)
        assert half_range(made) <= 2**15
        # One bit more makes it twice as fine, but for what rounding adds.
        assert plan(bits=17).clip_quanta / made.clip_quanta == pytest.approx(
            2, rel=0.01
        )

    def test_grid_is_no_finer_than_the_tables_allow(self):
        made = plan(noise_multiplier=10.0, cohort_size=1, bits=32)
        assert made.share_stddev == pytest.approx(distributed_plan.LARGEST_SHARE, 1e-5)

    def test_without_noise(self):
        made = plan(noise_multiplier=0.0)
        assert made.share_stddev == 0
        assert made.event(population=50).epsilon(1, 1e-5, "rdp") == math.inf

    @pytest.mark.parametrize("mechanism", ["discrete_gaussian", "skellam"])
    def test_overflow_is_rarer_than_the_bound(self, mechanism):
        made = plan(mechanism, overflow_stddevs=1.5)
        generator = np.random.default_rng(1)
        # All 50 clients send the same vector, each coordinate a random sign's worth.
        signs = generator.choice([-1.0, 1.0], size=(20_000, 64))
        share = signs.sum(axis=1) / 8 * made.clip_quanta * 50 / math.sqrt(1024)
        noise = generator.normal(0, made.share_stddev * math.sqrt(50), 20_000)
        found = np.mean(np.abs(share + noise) > 2**15)
        assert 0 < found < made.overflow_probability < 1
        # The sub-Gaussian bound is 2 exp(-1.5²/2) = 0.65.
        assert made.overflow_probability == pytest.approx(0.65, abs=0.01)
        assert plan(mechanism).overflow_probability < 7e-4

    def test_describes_itself(self):
        text = " ".join(plan().description())
        assert "2^16" in text
        assert "50 clients" in text

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"mechanism": "laplace"}, "mechanism must be one of"),
            ({"noise_multiplier": -1.0}, "noise_multiplier must be at least 0"),
            ({"dimension": 0}, "dimension must be at least 1"),
            ({"cohort_size": 0}, "cohort_size must be positive"),
            ({"minimum_cohort_size": 51}, r"minimum_cohort_size must be in \[1, 50\]"),
            ({"cohort_size": 0.5}, "minimum_cohort_size must be in"),
            ({"bits": 1}, "bits must be a whole number from 2 to 32"),
            ({"bits": 33}, "bits must be"),
            ({"rounding_bias": 1.0}, r"rounding_bias must be in \[0, 1\)"),
            ({"overflow_stddevs": 0.0}, "overflow_stddevs must be positive"),
            ({"bits": 5}, "raise bits"),
        ],
    )
    def test_bad_settings(self, changes, message):
        with pytest.raises(ValueError, match=message):
            plan(**changes)

    def test_too_little_noise_for_the_discrete_gaussian(self):
        small = {"noise_multiplier": 0.01, "bits": 12}
        with pytest.raises(ValueError, match=r"only from 0\.5 quanta"):
            plan("discrete_gaussian", **small)
        assert plan("skellam", **small).share_stddev < 0.5


class TestCalibration:
    @pytest.mark.parametrize("mechanism", ["discrete_gaussian", "skellam"])
    def test_least_noise_that_keeps_the_target(self, mechanism):
        settings = {"dimension": 1000, "cohort_size": 50, "bits": 16}
        made = calibrate_distributed(
            mechanism,
            target_epsilon=4.0,
            rounds=20,
            delta=1e-5,
            population=50,
            **settings,
        )
        event = made.event(population=50)
        assert event.epsilon(20, 1e-5, "rdp") <= 4.0
        z = made.noise_multiplier
        less = plan_distributed(mechanism, noise_multiplier=z - 0.001, **settings)
        assert less.event(population=50).epsilon(20, 1e-5, "rdp") > 4.0
        # zCDP's ρ = T/(2z²) with ε = ρ + 2√(ρ log 1/δ) = 4 gives z = 8.2 or less.
        assert 4.0 < z < 8.2

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"target_epsilon": 0.0}, "target_epsilon must be above 0"),
            ({"rounds": 0}, "rounds must be at least 1"),
            ({"delta": 1.0}, "delta must be"),
            ({"bits": 4}, "raise bits"),
        ],
    )
    def test_bad_settings(self, changes, message):
        settings = {
            "target_epsilon": 4.0,
            "rounds": 20,
            "delta": 1e-5,
            "population": 50,
            "dimension": 1000,
            "cohort_size": 50,
        }
        with pytest.raises(ValueError, match=message):
            calibrate_distributed("skellam", **{**settings, **changes})
