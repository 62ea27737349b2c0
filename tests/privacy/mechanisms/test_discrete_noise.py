"""Integer noise against exact probabilities, conditional rounding, rotation."""

from __future__ import annotations

import math

import noise_checks
import numpy as np
import pytest
import tensorflow as tf
from scipy import linalg, special, stats

from tfl_research.privacy.accounting.distributed_plan import squared_norm_bound
from tfl_research.privacy.mechanisms.noise import discrete_noise, noise_tables, rotation

SEED = tf.constant([2**40 + 3, -17], tf.int64)
LIMIT = noise_checks.limit(1)


def exact_sizes(mechanism, stddev, count):
    """P(|X| = 0, 1, ...) by formulas that the tables do not use."""
    size = np.arange(count)
    twice = np.where(size > 0, 2.0, 1.0)
    if mechanism == "skellam":
        return twice * special.ive(size, stddev**2)
    # The normalising constant by Poisson's summation formula.
    k = np.arange(1, 40)
    theta = 1 + 2 * np.exp(-2 * (math.pi * stddev * k) ** 2).sum()
    total = math.sqrt(2 * math.pi) * stddev * theta
    return twice * np.exp(-0.5 * (size / stddev) ** 2) / total


CASES = [
    (mechanism, stddev)
    for mechanism in ("discrete_gaussian", "skellam")
    for stddev in (0.3, 1.0, 5.7, 300.0)
]


@pytest.mark.parametrize(("mechanism", "stddev"), CASES)
class TestSampler:
    def test_table_holds_the_exact_probabilities(self, mechanism, stddev):
        table = noise_tables.noise_table(mechanism, stddev)
        # In whole numbers, since differences of floats lose the tails.
        units = [0] * table.columns
        for column, (own, alias) in enumerate(
            zip(table.thresholds.tolist(), table.aliases.tolist())
        ):
            assert 0 <= own <= 2**62
            units[column] += own
            units[alias] += 2**62 - own
        assert sum(units) == table.columns * 2**62
        drawn = np.array([u / table.columns / 2**62 for u in units])
        exact = exact_sizes(mechanism, stddev, table.columns)
        unit = 2.0**-62 / table.columns
        np.testing.assert_allclose(drawn, exact, rtol=1e-11, atol=1.01 * unit)

    def test_chi_square(self, mechanism, stddev):
        table = noise_tables.noise_table(mechanism, stddev)
        drawn = discrete_noise.draw([200_000], SEED, table).numpy()
        one_sided = exact_sizes(mechanism, stddev, table.columns)
        one_sided[1:] /= 2
        values = np.arange(-table.columns + 1, table.columns)
        probabilities = one_sided[np.abs(values)]
        # Bins of at least 20 expected draws, whole runs of values each.
        bins = np.floor(np.cumsum(probabilities) * min(60, 200_000 / 20)).astype(int)
        counts = np.bincount(bins[drawn + table.columns - 1], minlength=bins.max() + 1)
        expected = np.bincount(bins, weights=probabilities) * len(drawn)
        kept = expected >= 20
        counts = np.append(counts[kept], counts[~kept].sum())
        expected = np.append(expected[kept], expected[~kept].sum())
        if expected[-1] < 5:
            counts, expected = counts[:-1], expected[:-1]
            expected *= counts.sum() / expected.sum()
        assert len(counts) >= 2
        pvalue = stats.chisquare(counts, expected).pvalue
        assert pvalue > noise_checks.FALSE_ALARM

    def test_variance(self, mechanism, stddev):
        table = noise_tables.noise_table(mechanism, stddev)
        drawn = discrete_noise.draw([400_000], SEED, table).numpy().astype(float)
        sizes = exact_sizes(mechanism, stddev, table.columns)
        variance = np.sum(sizes * np.arange(table.columns, dtype=float) ** 2)
        fourth = np.sum(sizes * np.arange(table.columns, dtype=float) ** 4)
        noise_checks.check_variance([drawn], variance, fourth)
        if mechanism == "skellam" or stddev > 1:
            assert variance == pytest.approx(stddev**2, rel=1e-9)


class TestDraw:
    TABLE = noise_tables.noise_table("skellam", 40.0)

    def test_same_integers_under_xla(self):
        def draw():
            return discrete_noise.draw([3, 500], SEED, self.TABLE)

        plain = tf.function(draw, autograph=False)()
        compiled = tf.function(draw, autograph=False, jit_compile=True)()
        np.testing.assert_array_equal(plain, compiled)

    def test_seeds_and_coordinates_are_independent(self):
        other = tf.constant([2**40 + 3, -16], tf.int64)
        draws = [
            discrete_noise.draw([100_000], s, self.TABLE).numpy() for s in (SEED, other)
        ]
        noise_checks.check_uncorrelated(draws)

    def test_no_noise(self):
        table = noise_tables.noise_table("discrete_gaussian", 0.0)
        assert not discrete_noise.draw([1000], SEED, table).numpy().any()

    def test_unknown_mechanism(self):
        with pytest.raises(ValueError, match="'laplace'"):
            noise_tables.noise_table("laplace", 1.0)


class TestConditionalRound:
    def test_unbiased_and_to_a_neighbour(self):
        vector = tf.constant(np.linspace(-7.3, 9.1, 400_000), tf.float32)
        rounded = discrete_noise.conditional_round(vector, 2**60, SEED).numpy()
        error = rounded - vector.numpy().astype(np.float64)
        assert np.abs(error).max() < 1
        # Standard deviation of a rounding error is at most 1/2.
        assert abs(error.mean()) < LIMIT * 0.5 / math.sqrt(len(error))
        fraction = vector.numpy() - np.floor(vector.numpy())
        slack = LIMIT / math.sqrt(len(error))
        assert np.corrcoef(error, fraction)[0, 1] == pytest.approx(0, abs=slack)

    def test_whole_numbers_stay(self):
        whole = tf.constant([-3.0, 0.0, 8.0, 2.0**22], tf.float32)
        found = discrete_noise.conditional_round(whole, 2**60, SEED)
        np.testing.assert_array_equal(found, [-3, 0, 8, 2**22])

    def test_norm_bound_always_holds(self):
        generator = np.random.default_rng(3)
        bound = squared_norm_bound(6.0, 64, math.exp(-0.5))
        norms = []

        @tf.function(autograph=False)
        def rounded(vector, seed):
            return discrete_noise.conditional_round(vector, bound, seed)

        for trial in range(200):
            vector = generator.normal(size=64)
            vector *= 6.0 / np.linalg.norm(vector)
            seed = tf.constant([trial, 1], tf.int64)
            found = rounded(tf.constant(vector, tf.float32), seed).numpy()
            assert np.abs(found - vector).max() < 1
            norms.append(int((found**2).sum()))
        assert max(norms) <= bound
        # Norms without the condition would exceed it now and then.
        assert max(norms) > 0.95 * bound

    def test_what_cannot_be_rounded_in_time_goes_towards_zero(self):
        vector = tf.constant([1.5] * 64, tf.float32)

        @tf.function(autograph=False)
        def rounded():
            # Only rounding all 64 coordinates down keeps the first two bounds.
            return [
                discrete_noise.conditional_round(v, bound, SEED)
                for v, bound in ((vector, 64), (-vector, 64), (vector, 63))
            ]

        for found, expected in zip(rounded(), (1, -1, 0)):
            np.testing.assert_array_equal(found, np.full(64, expected))

    def test_in_graphs_as_tff_builds_them(self):
        """Those compare tensors with == by identity, unlike tf.function."""
        vector = np.linspace(-3.0, 3.0, 501).astype(np.float32)
        expected = discrete_noise.conditional_round(
            tf.constant(vector), 10**6, SEED
        ).numpy()
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            found = session.run(
                discrete_noise.conditional_round(
                    tf.constant(vector), 10**6, tf.constant([2**40 + 3, -17], tf.int64)
                )
            )
        np.testing.assert_array_equal(found, expected)

    def test_vectorised_over_clients(self):
        vectors = tf.constant(np.random.default_rng(4).normal(size=(5, 64)), tf.float32)
        seeds = tf.constant([[i, 7] for i in range(5)], tf.int64)
        bound = int(np.sum(vectors.numpy()[0] ** 2) + 16)

        def one(pair):
            return discrete_noise.conditional_round(pair[0], bound, pair[1])

        expected = [one(pair).numpy() for pair in zip(vectors, seeds)]
        found = tf.function(lambda: tf.vectorized_map(one, (vectors, seeds)))()
        np.testing.assert_array_equal(found, expected)


class TestRotation:
    @pytest.mark.parametrize("length", [1, 2, 8, 64])
    def test_is_the_hadamard_matrix(self, length):
        matrix = linalg.hadamard(length) / math.sqrt(length)
        found = [
            rotation.hadamard(tf.constant(row)) for row in np.eye(length, dtype="f")
        ]
        np.testing.assert_allclose(found, matrix, rtol=1e-6)

    def test_keeps_norms_and_products_and_inverts(self):
        generator = np.random.default_rng(5)
        pair = generator.normal(size=(2, 1 << 14)).astype(np.float32)
        rotated = [rotation.rotate(tf.constant(v), SEED).numpy() for v in pair]
        for before, after in zip(pair, rotated):
            assert np.linalg.norm(after) == pytest.approx(
                np.linalg.norm(before), rel=1e-5
            )
            back = rotation.rotate_back(tf.constant(after), SEED)
            np.testing.assert_allclose(back, before, atol=1e-5)
        assert rotated[0] @ rotated[1] == pytest.approx(pair[0] @ pair[1], abs=0.05)

    def test_flattens_any_vector(self):
        spike = np.zeros(4096, np.float32)
        spike[17] = spike[18] = 100.0
        rotated = rotation.rotate(tf.constant(spike), SEED).numpy()
        # Sub-Gaussian with variance |x|²/d: 4096 coordinates within 6 deviations.
        assert np.abs(rotated).max() <= 6 * np.linalg.norm(spike) / 64

    def test_signs_depend_on_the_seed_and_are_fair(self):
        ones = tf.ones([4096])
        signs = [
            rotation.hadamard(rotation.rotate(ones, tf.constant([s, 0], tf.int64)))
            for s in range(2)
        ]
        signs = np.round(np.array(signs))
        assert set(np.unique(signs)) == {-1.0, 1.0}
        sums = [*signs.mean(axis=1), np.mean(signs[0] * signs[1])]
        assert np.abs(sums).max() < noise_checks.limit(3) / 64

    def test_same_bits_under_xla(self):
        vector = tf.constant(np.random.default_rng(6).normal(size=1024), tf.float32)

        def rotated():
            return rotation.rotate(vector, SEED)

        np.testing.assert_array_equal(
            tf.function(rotated)(), tf.function(rotated, jit_compile=True)()
        )

    @pytest.mark.parametrize("length", [0, 3, 6])
    def test_other_lengths_are_refused(self, length):
        with pytest.raises(ValueError, match="power of two"):
            rotation.hadamard(tf.zeros([length]))
