"""Banded factorisation: the optimum, its certificate, sensitivity, and the cache."""

from __future__ import annotations

import itertools
import math
import os

import numpy as np
import pytest
from scipy import optimize

from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.accounting.events.matrix_event import MatrixEvent
from tfl_research.privacy.accounting.losses import gaussian
from tfl_research.privacy.mechanisms.noise import (
    factor_cache,
    factor_search,
    factorization,
)


def independent(rounds):
    return factorization.BandedFactor(np.ones((rounds, 1)))


def loss_of_gram(gram, workload):
    """‖A C^-1‖² as a function of X = C^T C."""
    return np.trace(workload.T @ workload @ np.linalg.inv(gram))


class TestOptimum:
    def test_two_rounds_by_hand(self):
        # X = [[1, x], [x, 1]] has the loss (3 - 2x) / (1 - x²), least where
        # x² - 3x + 1 = 0: x = (3 - √5)/2, and the loss is ((1 + √5)/2)².
        factor = factorization.banded_factor(2, 2, cache=False)
        x = (factor.dense().T @ factor.dense())[0, 1]
        assert x == pytest.approx((3 - math.sqrt(5)) / 2, abs=1e-3)
        loss = 2 * factor.error(factorization.workload_matrix(2)) ** 2
        assert loss == pytest.approx(((1 + math.sqrt(5)) / 2) ** 2, rel=1e-6)

    @pytest.mark.parametrize(("rounds", "bands"), [(5, 5), (6, 3), (7, 2)])
    def test_equals_another_optimiser(self, rounds, bands):
        """The convex problem in X = C^T C by Nelder and Mead, without slopes."""
        workload = factorization.workload_matrix(rounds)
        inside = [(i, j) for i in range(rounds) for j in range(i) if i - j < bands]

        def loss(entries):
            gram = np.eye(rounds)
            for (i, j), value in zip(inside, entries):
                gram[i, j] = gram[j, i] = value
            if np.linalg.eigvalsh(gram)[0] <= 1e-9:
                return np.inf
            return loss_of_gram(gram, workload)

        best = optimize.minimize(
            loss,
            np.full(len(inside), 0.1),
            method="Nelder-Mead",
            options={"maxiter": 20_000, "maxfev": 20_000, "adaptive": True},
        ).fun
        factor = factorization.banded_factor(rounds, bands, cache=False)
        assert rounds * factor.error(workload) ** 2 == pytest.approx(best, rel=1e-4)

    @pytest.mark.parametrize(
        ("rounds", "bands", "momentum"), [(40, 7, 0.0), (40, 40, 0.0), (40, 7, 0.9)]
    )
    def test_certificate(self, rounds, bands, momentum):
        """No feasible direction goes down: a lower bound by duality.

        The loss is convex in X, so that it is at least loss(X) + <slope, Y - X> for
        every feasible Y, whose diagonal is 1 and whose entries are within ±1: the
        bound falls short by twice the sum of the slope's entries inside the bands.
        """
        workload = factorization.workload_matrix(rounds, momentum=momentum)
        factor = factorization.banded_factor(
            rounds, bands, momentum=momentum, cache=False
        )
        inverse = np.linalg.inv(factor.dense().T @ factor.dense())
        slope = -inverse @ workload.T @ workload @ inverse
        ages = np.abs(np.subtract.outer(np.arange(rounds), np.arange(rounds)))
        left = np.abs(slope[(ages > 0) & (ages < bands)]).sum() * 2
        assert left < 0.15 * rounds * factor.error(workload) ** 2
        # Beside it, at independent noise, the same sum is many times the loss.
        start = -workload.T @ workload
        begun = np.abs(start[(ages > 0) & (ages < bands)]).sum()
        assert begun > 4 * np.trace(workload.T @ workload)

    def test_nothing_near_it_is_better(self):
        rows = factorization.banded_factor(9, 4, cache=False).rows
        workload = factorization.workload_matrix(9)
        best = factorization.BandedFactor(rows).error(workload)
        generator = np.random.default_rng(0)
        inside = rows != 0
        for _ in range(50):
            moved = rows + 0.01 * generator.normal(size=rows.shape) * inside
            moved = factorization.BandedFactor(factor_search.normalised(moved))
            assert moved.error(workload) >= best * (1 - 1e-6)

    def test_more_bands_err_less(self):
        workload = factorization.workload_matrix(64)
        errors = [
            factorization.banded_factor(64, bands, cache=False).error(workload)
            for bands in (1, 2, 4, 16, 64)
        ]
        assert errors == sorted(errors, reverse=True)
        # One band: independent noise, √((1 + 2 + ... + 64)/64).
        assert errors[0] == pytest.approx(math.sqrt(32.5))

    def test_one_number_a_diagonal_is_nearly_as_good(self):
        workload = factorization.workload_matrix(200)
        diagonals = factor_search.best_diagonals(200, 50, 0.0)
        rows = factor_search.normalised(factor_search.from_diagonals(diagonals, 200))
        toeplitz = factorization.BandedFactor(rows).error(workload)
        dense = factorization.banded_factor(200, 50, cache=False).error(workload)
        assert dense < toeplitz < 1.03 * dense

    def test_two_thousand_rounds(self):
        factor = factorization.banded_factor(2000, 342, cache=False)
        assert factor.bands == 342
        np.testing.assert_allclose(factor.column_norms(), 1, atol=1e-12)
        # Of the best C without bands, an error of √(n) parts: log-many instead.
        assert factor.error(factorization.workload_matrix(2000)) < 3.6

    def test_learning_rates_shape_the_optimum(self):
        rates = np.geomspace(1, 1e-3, 30)
        workload = factorization.workload_matrix(30, learning_rates=rates)
        fitted = factorization.banded_factor(30, 8, learning_rates=rates, cache=False)
        constant = factorization.banded_factor(30, 8, cache=False)
        assert fitted.error(workload) < 0.95 * constant.error(workload)


class TestAgainstIndependentNoise:
    """The regimes of arXiv 2306.08153, Figure 1 and Table 1: at the same ε."""

    ROUNDS, SEPARATION, DELTA = 256, 64, 1e-6

    def noise_for(self, curve, epsilon):
        """The noise multiplier at which the last ε is the wanted one."""
        return optimize.brentq(lambda z: curve(z) - epsilon, 0.2, 200, rtol=3e-3)

    def test_beats_unamplified_dp_sgd(self):
        """Four rounds of a client, 64 apart: the same noise multiplier, less error."""
        workload = factorization.workload_matrix(self.ROUNDS)
        factor = factorization.banded_factor(self.ROUNDS, self.SEPARATION)
        z = 2 / optimize.brentq(
            lambda mu: gaussian.epsilons(np.array([mu]), self.DELTA)[0] - 4, 0.1, 10
        )
        event = MatrixEvent(z, 256, 64, 64, 64, None, 6400, 100.0, "zero_out")
        assert event.epsilon(256, self.DELTA, "pld") == pytest.approx(4, rel=1e-6)
        banded, plain = z * factor.error(workload), z * independent(256).error(workload)
        assert banded < 0.27 * plain

    @pytest.mark.parametrize(("epsilon", "wins"), [(8.0, True), (0.25, False)])
    def test_few_bands_with_amplification_beat_amplified_dp_sgd(self, epsilon, wins):
        """256 rounds of 5% of the clients, Poisson: at ε = 8, 8 bands err less than
        DP-SGD; at a small ε amplification is worth more than correlation."""
        workload = factorization.workload_matrix(self.ROUNDS)

        def plain(z):
            return GaussianEvent.poisson(z, 0.05).epsilon(256, self.DELTA, "pld")

        def banded(z):
            event = MatrixEvent(z, 256, 8, 8, 8, 0.4, 2000, 100.0, "add_or_remove_one")
            return event.epsilon(256, self.DELTA, "pld")

        factor = factorization.banded_factor(256, 8)
        error = self.noise_for(banded, epsilon) * factor.error(workload)
        other = self.noise_for(plain, epsilon) * independent(256).error(workload)
        assert (error < other) == wins
        if wins:
            assert error < 0.8 * other


class TestSensitivity:
    @pytest.mark.parametrize(("rounds", "bands", "apart"), [(10, 3, 3), (9, 2, 4)])
    def test_equals_the_largest_of_all_patterns(self, rounds, bands, apart):
        factor = factorization.banded_factor(rounds, bands, cache=False)
        dense = factor.dense()
        for most in (1, 2, 3):
            largest = 0.0
            for count in range(1, most + 1):
                for chosen in itertools.combinations(range(rounds), count):
                    if min(np.diff(chosen), default=rounds) < apart:
                        continue
                    # Any signs: the columns do not overlap.
                    for signs in itertools.product([1, -1], repeat=count):
                        moved = dense[:, chosen] @ signs
                        largest = max(largest, np.linalg.norm(moved))
            assert factor.sensitivity(most) == pytest.approx(largest)
            assert factor.sensitivity(most) == pytest.approx(math.sqrt(most))

    def test_fewer_rounds_apart_than_bands_would_cost_more(self):
        dense = factorization.banded_factor(10, 4, cache=False).dense()
        assert np.linalg.norm(dense[:, 0] + dense[:, 1]) > math.sqrt(2) * 1.1


class TestWorkload:
    def test_prefix_sums(self):
        np.testing.assert_array_equal(
            factorization.workload_matrix(3), [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
        )

    def test_is_the_optimizers_own(self):
        rates, momentum, rounds = [0.5, 1.0, 0.25, 2.0], 0.9, 4
        found = factorization.workload_matrix(
            rounds, momentum=momentum, learning_rates=rates
        )
        for counted in range(rounds):
            model = velocity = 0.0
            for round_number in range(rounds):
                velocity = momentum * velocity + (round_number == counted)
                model += rates[round_number] * velocity
                assert found[round_number, counted] == pytest.approx(model)


KEY = {
    "rounds": 6,
    "bands": 2,
    "momentum": 0.0,
    "learning_rates": None,
    "parametrisation": "dense",
}


class TestCache:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def test_is_used(self, monkeypatch):
        first = factorization.banded_factor(6, 2)
        monkeypatch.setattr(factor_search, "best_entries", None)
        again = factorization.banded_factor(6, 2)
        np.testing.assert_array_equal(first.rows, again.rows)
        files = list(factor_cache.folder().iterdir())
        assert files == [factor_cache.path_of(KEY)]

    def test_other_parameters_are_another_file(self):
        factorization.banded_factor(6, 2)
        factorization.banded_factor(6, 2, momentum=0.5)
        factorization.banded_factor(6, 3)
        assert len(list(factor_cache.folder().iterdir())) == 3

    def test_can_be_left_out(self):
        factorization.banded_factor(6, 2, cache=False)
        assert not factor_cache.folder().exists()

    @pytest.mark.parametrize(
        "damage", ["empty", "cut", "noise", "other_key", "columns", "shape", "nan"]
    )
    def test_a_damaged_file_is_computed_anew(self, damage):
        expected = factorization.banded_factor(6, 2).rows
        path = factor_cache.path_of(KEY)
        content = path.read_bytes()
        if damage == "empty":
            path.write_bytes(b"")
        elif damage == "cut":
            path.write_bytes(content[: len(content) // 2])
        elif damage == "noise":
            path.write_bytes(b"\x93" * 500)
        elif damage == "other_key":
            path.write_bytes(b"")
            factor_cache.store({**KEY, "momentum": 0.5}, expected)
            factor_cache.path_of({**KEY, "momentum": 0.5}).rename(path)
        elif damage == "columns":
            factor_cache.store(KEY, expected * 1.01)
        elif damage == "shape":
            factor_cache.store(KEY, expected[:5])
        else:
            factor_cache.store(KEY, np.where(expected == 0, np.nan, expected))
        with pytest.warns(UserWarning, match="does not hold a usable matrix"):
            found = factorization.banded_factor(6, 2)
        np.testing.assert_array_equal(found.rows, expected)
        # And the file is whole again.
        np.testing.assert_array_equal(factorization.banded_factor(6, 2).rows, expected)

    def test_a_folder_that_cannot_be_written_is_a_warning(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        with pytest.warns(UserWarning, match="could not be kept"):
            factorization.banded_factor(6, 2)

    def test_nothing_is_left_behind_by_a_write_that_fails(self, monkeypatch):
        def fail(*_):
            raise OSError("no space")

        monkeypatch.setattr(os, "replace", fail)
        with pytest.warns(UserWarning, match="no space"):
            factorization.banded_factor(6, 2)
        assert list(factor_cache.folder().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rounds": 0, "bands": 1}, "rounds must be a whole number"),
        ({"rounds": 5, "bands": 0}, "bands must be a whole number"),
        ({"rounds": 5, "bands": 6}, "at most the 5 rounds, got 6"),
        ({"rounds": 5, "bands": 2, "momentum": 1.0}, "momentum must be"),
        ({"rounds": 3, "bands": 2, "learning_rates": [1, 1]}, "must be 3 positive"),
        ({"rounds": 2, "bands": 2, "learning_rates": [1, 0]}, "must be 2 positive"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        factorization.banded_factor(**arguments, cache=False)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones((2, 3)), "bands at most rounds"),
        (np.ones((3, 1), np.float32), "float64"),
        (np.array([[1.0, 0.5], [1.0, 0.0]]), "0 where the column"),
        (np.array([[-1.0], [1.0]]), "diagonal"),
        (np.array([[1.0, 0.0], [1.0, 0.1]]), "norm 1"),
    ],
)
def test_what_is_no_factor(rows, message):
    with pytest.raises(ValueError, match=message):
        factorization.BandedFactor(rows)
