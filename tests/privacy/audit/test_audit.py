"""Audit estimators on synthetic mechanisms whose ε is known, in NumPy."""

from __future__ import annotations

import importlib
import json
import math
import pathlib

import numpy as np
import pytest
from scipy import special, stats
from sklearn import metrics

from tfl_research import data
from tfl_research.privacy import audit
from tfl_research.privacy.accounting.losses import gaussian
from tfl_research.privacy.audit import one_run, plots, results

DELTA = 1e-5


class TestEpsilonBetweenGaussians:
    def test_equal_variances_are_the_gaussian_mechanism(self):
        mu = np.array([0.2, 1.0, 3.0, 50.0, 1000.0])
        found = audit.epsilon_between_gaussians(2 * mu + 1, 2.0, 1.0, 2.0, DELTA)
        np.testing.assert_allclose(found, gaussian.epsilons(mu, DELTA), rtol=1e-9)

    @pytest.mark.parametrize(
        ("mean", "std"), [(0.7, 1.3), (0.7, 0.8), (-0.7, 1.3), (0.0, 1.5), (0.0, 0.5)]
    )
    def test_other_variances_against_quadrature(self, mean, std):
        epsilon = float(audit.epsilon_between_gaussians(mean, std, 0, 1, 1e-3))
        x = np.linspace(-30, 30, 600_001)
        p, q = stats.norm.pdf(x, mean, std), stats.norm.pdf(x)
        both = [
            np.maximum(a - math.exp(epsilon) * b, 0).sum() * (x[1] - x[0])
            for a, b in ((p, q), (q, p))
        ]
        assert max(both) == pytest.approx(1e-3, rel=1e-4)

    def test_equal_gaussians_cost_nothing(self):
        assert audit.epsilon_between_gaussians(0.3, 2, 0.3, 2, DELTA) == 0

    def test_it_is_symmetric(self):
        one = audit.epsilon_between_gaussians(0.3, 2, 0.1, 1, DELTA)
        other = audit.epsilon_between_gaussians(0.1, 1, 0.3, 2, DELTA)
        assert float(one) == pytest.approx(float(other))

    @pytest.mark.parametrize("arguments", [(0, 0, 0, 1), (0, 1, 0, -1)])
    def test_refuses_no_spread(self, arguments):
        with pytest.raises(ValueError, match="above 0"):
            audit.epsilon_between_gaussians(*arguments, DELTA)


def one_release(z, canaries, dimension, seed):
    """Cosines and coins of a sum of random directions with noise z, released once."""
    generator = np.random.default_rng(seed)
    directions = generator.normal(size=(canaries, dimension))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    included = generator.random(canaries) < 0.5
    released = included @ directions + z * generator.normal(size=dimension)
    return directions @ released / np.linalg.norm(released), included


class TestGaussianMechanism:
    """A sum of 1000 canaries with Gaussian noise, released once."""

    @pytest.mark.parametrize("z", [0.5, 1.0])
    def test_the_estimate_is_close(self, z):
        estimates = []
        for seed in range(3):
            cosines, included = one_release(z, 600, 3000, seed)
            estimate = audit.estimate_epsilon(
                cosines[included],
                null_mean=0,
                null_std=3000**-0.5,
                delta=DELTA,
                resamples=100,
            )
            assert estimate.low <= estimate.high
            estimates.append(estimate.epsilon)
        true = gaussian.epsilons(np.array([1 / z]), DELTA)[0]
        # Canaries are noise for each other: z² d and 300 of them. The cosines' mean
        # has a standard error of 1 / sqrt(300) in units of the noise.
        assert np.median(estimates) == pytest.approx(true, rel=0.25)

    @pytest.mark.parametrize("z", [0.5, 1.0, 3.0])
    def test_the_estimate_converges_with_the_canaries(self, z):
        scores = np.random.default_rng(1).normal(1 / z, 1.0, size=200_000)
        found = audit.estimate_epsilon(
            scores, null_mean=0, null_std=1, delta=DELTA, resamples=20
        )
        true = gaussian.epsilons(np.array([1 / z]), DELTA)[0]
        assert found.epsilon == pytest.approx(true, rel=0.03)
        assert found.low <= found.epsilon * 1.01
        assert found.high >= found.epsilon * 0.99

    def test_the_lower_bounds_are_below_the_true_epsilon(self):
        # At 95% confidence; Binomial(100, 0.05) is above 13 with probability 5e-4.
        true = gaussian.epsilons(np.array([1.0]), DELTA)[0]
        above = independent = useful = 0
        for seed in range(100):
            cosines, included = one_release(1.0, 100, 500, seed)
            bound = audit.one_run_lower_bound(cosines, included, delta=DELTA)
            positive = cosines > 1.28 * 500**-0.5
            independent_bound = audit.clopper_pearson_lower_bound(
                positive[included].sum(),
                included.sum(),
                positive[~included].sum(),
                (~included).sum(),
                delta=DELTA,
            )
            above += bound.epsilon > true
            independent += independent_bound > true
            useful += bound.epsilon > 0
        assert above <= 13
        assert independent <= 13
        assert useful > 50

    def test_more_noise_is_estimated_as_more_privacy(self):
        found = [
            audit.estimate_epsilon(
                scores[included], null_mean=0, null_std=2000**-0.5, delta=DELTA
            ).epsilon
            for scores, included in (one_release(z, 500, 2000, 1) for z in (0.5, 1, 4))
        ]
        assert found[0] > found[1] > found[2]

    @pytest.mark.parametrize(
        "scores", [[1.0], [1.0, math.nan], [0.5, 0.5], [[1.0, 2.0]]]
    )
    def test_refuses_scores_without_a_spread(self, scores):
        with pytest.raises(ValueError, match="canar"):
            audit.estimate_epsilon(
                np.array(scores), null_mean=0, null_std=1, delta=DELTA
            )


class TestOneRunBound:
    def test_by_hand_without_delta(self):
        # All 100 guesses right: e^ε / (1 + e^ε) is at least 0.05^(1/100).
        included = np.arange(200) >= 100
        found = audit.one_run_lower_bound(
            np.arange(200.0), included, delta=0, confidence=0.95
        )
        rate = 0.05 ** (1 / 100)
        assert found.epsilon == pytest.approx(math.log(rate / (1 - rate)), rel=1e-9)
        assert (found.correct, found.guesses, found.canaries) == (100, 100, 200)
        assert found.largest == found.epsilon

    def test_the_p_value_by_sums(self):
        # P[V >= 8] + 2 m δ max_i P[8 > V >= 8 - i] / i of V ~ Binomial(10, 0.7).
        rate, m, delta = 0.7, 30, 1e-3
        mass = [math.comb(10, k) * rate**k * (1 - rate) ** (10 - k) for k in range(11)]
        alpha = max(sum(mass[max(8 - i, 0) : 8]) / i for i in range(1, 31))
        expected = sum(mass[8:]) + 2 * m * delta * alpha
        epsilon = math.log(rate / (1 - rate))
        found = one_run.one_run_p_value(8, 10, m, epsilon, delta)
        assert found == pytest.approx(expected, rel=1e-12)

    def test_randomised_response_keeps_the_confidence(self):
        # The worst case: each guess is right with probability e^ε / (1 + e^ε). Of
        # 2000 runs at most 5% may be above, and are in fact between 2% and 5%;
        # Binomial(2000, 0.05) is above 140 with probability 4e-5.
        generator = np.random.default_rng(0)
        correct = generator.binomial(100, special.expit(1.5), size=2000)
        bounds = {
            int(c): one_run._smallest_plausible(int(c), 100, 200, 0.0, 0.05)
            for c in set(correct)
        }
        above = sum(bounds[int(c)] > 1.5 for c in correct)
        assert 20 <= above <= 140

    def test_delta_lowers_the_bound(self):
        included = np.arange(200) >= 100
        found = [
            audit.one_run_lower_bound(np.arange(200.0), included, delta=d).epsilon
            for d in (0, 1e-4, 1e-2)
        ]
        assert found[0] > found[1] > found[2] >= 0

    def test_useless_scores_show_nothing(self):
        generator = np.random.default_rng(3)
        included = generator.random(200) < 0.5
        found = audit.one_run_lower_bound(
            generator.normal(size=200), included, delta=DELTA
        )
        assert found.epsilon == 0
        assert found.largest > 3

    def test_too_few_canaries_for_a_guess(self):
        found = audit.one_run_lower_bound(
            np.zeros(2), np.array([True, False]), delta=0, guess_fraction=0.5
        )
        assert (found.guesses, found.epsilon, found.largest) == (0, 0, 0)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"scores": np.array([1.0, math.nan])}, "NaN"),
            ({"included": np.array([True])}, "coin"),
            ({"delta": 1.0}, "delta"),
            ({"confidence": 1.0}, "confidence"),
            ({"guess_fraction": 0.0}, "guess_fraction"),
        ],
    )
    def test_refuses(self, changes, message):
        arguments = {
            "scores": np.zeros(2),
            "included": np.array([True, False]),
            "delta": 0.0,
            **changes,
        }
        with pytest.raises(ValueError, match=message):
            audit.one_run_lower_bound(**arguments)


class TestClopperPearson:
    def test_against_the_binomial_tails(self):
        # The bounds' own definition: the tail at the bound is half of the error.
        found = audit.clopper_pearson_lower_bound(80, 100, 5, 100, delta=0)
        true, false = 0.7081573, 0.1128349  # Exact 95% limits of 80 and of 5.
        assert stats.binom.sf(79, 100, true) == pytest.approx(0.025, rel=1e-4)
        assert stats.binom.cdf(5, 100, false) == pytest.approx(0.025, rel=1e-4)
        assert found == pytest.approx(math.log(true / false), rel=1e-4)

    def test_the_other_inequality(self):
        # Nobody in is below, so that TNR / FNR is what tells.
        found = audit.clopper_pearson_lower_bound(100, 100, 30, 100, delta=0)
        reverse = audit.clopper_pearson_lower_bound(70, 100, 0, 100, delta=0)
        assert found == pytest.approx(reverse)

    def test_nothing_is_known_of_nobody(self):
        assert audit.clopper_pearson_lower_bound(0, 0, 0, 0, delta=0) == 0

    def test_refuses_more_than_there_are(self):
        with pytest.raises(ValueError, match="3 of 2"):
            audit.clopper_pearson_lower_bound(3, 2, 0, 1, delta=0)


class TestCanaries:
    def test_coins_are_fair_and_fixed_by_the_seed(self):
        crew = audit.Canaries(2000, 5)
        np.testing.assert_array_equal(crew.included, audit.Canaries(2000, 5).included)
        # Within 4 standard deviations, which fails for 1 seed in 15,000.
        assert abs(crew.included.mean() - 0.5) < 4 * 0.5 / math.sqrt(2000)
        other = audit.Canaries(2000, 6).included
        assert abs((crew.included == other).mean() - 0.5) < 0.06

    def test_they_join_the_population_without_examples(self, two_clients):
        clients = data.ClientData.from_arrays(
            {
                name: {"x": x.astype(np.float32), "y": y.astype(np.float32)}
                for name, (x, y) in two_clients.items()
            }
        )
        crew = audit.Canaries(12, 0)
        joined = crew.join(clients)
        assert joined.client_ids == ("a", "b", *crew.client_ids)
        assert joined.num_examples("a") == 3
        assert joined.num_examples("canary-07") == 0
        cohort = joined.cohort(["b", "canary-07"], seed=0, round_number=1)
        assert list(cohort.roles) == [0, crew.roles["canary-07"]]
        assert sorted(map(abs, crew.roles.values())) == list(range(1, 13))
        assert [r > 0 for r in crew.roles.values()] == list(crew.included)
        with pytest.raises(ValueError, match="canary"):
            crew.join(joined)

    def test_excluded_ones_leave_cohorts_of_add_or_remove_one_only(self):
        crew = audit.Canaries(9, 1)

        class Everyone:
            def sample(self, round_number):
                return ("a", *crew.client_ids)

        left = crew.sampler(Everyone(), "add_or_remove_one").sample(1)
        assert left == ("a", *(n for n, r in crew.roles.items() if r > 0))
        assert len(crew.sampler(Everyone(), "replace_one").sample(1)) == 10
        assert len(crew.sampler(Everyone(), "zero_out").sample(1)) == 10

    def test_refuses_a_single_one(self):
        with pytest.raises(ValueError, match="got 1"):
            audit.Canaries(1, 0)


class TestMembership:
    def test_area_and_interval(self):
        generator = np.random.default_rng(2)
        members = np.round(generator.normal(0, 1, 400), 1)  # With ties.
        others = np.round(generator.normal(0.5, 1, 300), 1)
        found = audit.loss_threshold_attack(members, others)
        labels = np.r_[np.ones(400), np.zeros(300)]
        scores = -np.r_[members, others]
        assert found.auc == pytest.approx(metrics.roc_auc_score(labels, scores))
        false, true, _ = metrics.roc_curve(labels, scores)
        assert found.advantage == pytest.approx(np.abs(true - false).max())
        # DeLong's variance from its kernel, pair by pair.
        kernel = (members[:, None] < others) + 0.5 * (members[:, None] == others)
        variance = kernel.mean(axis=1).var(ddof=1) / 400
        variance += kernel.mean(axis=0).var(ddof=1) / 300
        width = 2 * 1.959964 * math.sqrt(variance)
        assert found.auc_high - found.auc_low == pytest.approx(width, rel=1e-6)
        assert found.advantage_low < found.advantage < found.advantage_high

    def test_is_tensorflow_privacys_threshold_attack(self, monkeypatch):
        """Recorded by reference/make_tensorflow_privacy.py from release 0.8.11."""
        folder = pathlib.Path(__file__).parents[1] / "accounting" / "reference"
        monkeypatch.syspath_prepend(str(folder))
        make = importlib.import_module("make_tensorflow_privacy")
        rows = make.table.read("membership.csv")
        assert len(rows) == len(make.CASES) == 5
        for row, case in zip(rows, make.CASES):
            assert int(row["seed"]) == case[0]
            found = audit.loss_threshold_attack(*make.losses(*case), resamples=1)
            assert found.auc == pytest.approx(float(row["auc"]), rel=1e-12)
            expected = pytest.approx(float(row["advantage"]), rel=1e-12)
            assert found.advantage == expected

    def test_interval_holds_a_half_as_often_as_it_says(self):
        # Binomial(300, 0.05) is above 30 with probability 1e-4.
        missed = 0
        for seed in range(300):
            generator = np.random.default_rng(seed)
            found = audit.loss_threshold_attack(
                generator.normal(size=60), generator.normal(size=80), resamples=1
            )
            missed += not found.auc_low <= 0.5 <= found.auc_high
        assert missed <= 30

    def test_losses_that_are_not_finite_are_the_largest(self):
        found = audit.loss_threshold_attack([1.0, 2.0], [math.nan, math.inf])
        assert found.auc == 1
        assert found.advantage == 1

    def test_refuses_one_example(self):
        with pytest.raises(ValueError, match="got 1 and 2"):
            audit.loss_threshold_attack([1.0], [1.0, 2.0])


class TestResult:
    def result(self, epsilon, z=0.05, **changes):
        cosines, included = one_release(z, 200, 5000, 0)
        return audit.AuditResult.of(
            {"mean": cosines, "max": cosines},
            included,
            **{
                "statistic": "mean",
                "rounds": 3,
                "dimension": 5000,
                "epsilon": epsilon,
                "delta": DELTA,
                **changes,
            },
        )

    def test_says_when_the_account_is_contradicted(self):
        found = self.result(1.0)
        assert found.contradicts
        assert found.bound.epsilon > 2
        assert found.lines()[-1].startswith("CONTRADICTION")
        assert json.loads(found.to_json())["contradicts"] is True

    def test_says_when_nothing_could_be_shown(self):
        found = self.result(math.inf)
        assert not found.contradicts
        assert "none was possible" in found.lines()[-1]
        assert json.loads(found.to_json())["epsilon"] == "inf"

    def test_honest(self):
        # ε of z = 2 is 2.0.
        found = self.result(2.0, z=2.0)
        assert not found.contradicts
        assert found.lines()[-1].startswith("no contradiction: ")
        assert set(found.estimates) == {"mean", "max"}

    def test_the_statistic_must_be_there(self):
        with pytest.raises(ValueError, match="'final'"):
            self.result(1.0, statistic="final")

    def test_cosines_that_are_all_alike_have_no_estimate(self):
        found = audit.AuditResult.of(
            {"mean": np.zeros(40)},
            np.arange(40) % 2 == 0,
            statistic="mean",
            rounds=1,
            dimension=10,
            epsilon=1.0,
            delta=DELTA,
        )
        assert found.estimates == {}
        # Ties follow a random order, and not the coins' pattern.
        assert found.bound.epsilon == 0

    def test_plot(self, tmp_path):
        cosines, included = one_release(1.0, 50, 500, 0)
        for statistic in ("mean", "max"):
            path = tmp_path / f"{statistic}.svg"
            plots.save(path, cosines, included, statistic=statistic, dimension=500)
            assert "<svg" in path.read_text(encoding="utf-8")
        assert results.AuditResult is audit.AuditResult
