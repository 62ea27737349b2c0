"""Portable random tensors: same numbers everywhere, right distributions."""

import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfl_research import stateless_random

SEED = tf.constant([7, 11], tf.int64)


@pytest.mark.parametrize("draw", [stateless_random.uniform, stateless_random.normal])
def test_xla_draws_the_same_numbers(draw):
    plain = tf.function(lambda: draw([50_000], SEED))()
    compiled = tf.function(lambda: draw([50_000], SEED), jit_compile=True)()
    np.testing.assert_allclose(plain, compiled, rtol=2e-5, atol=2e-6)


def test_uniform_is_uniform():
    sample = stateless_random.uniform([200_000], SEED).numpy()
    assert sample.min() > 0
    assert sample.max() <= 1
    # A correct generator fails this once in 10^6 seeds; the seed is fixed.
    assert stats.kstest(sample, "uniform").pvalue > 1e-6


def test_normal_is_standard_normal():
    sample = stateless_random.normal([400, 500], SEED).numpy().ravel()
    assert stats.kstest(sample, "norm").pvalue > 1e-6
    assert abs(sample.std() - 1) < 5 / np.sqrt(2 * sample.size)
    assert sample.max() > 3.5


def test_other_seeds_and_folds_are_uncorrelated():
    draws = [
        stateless_random.normal([20_000], stateless_random.fold_in(SEED, i)).numpy()
        for i in range(4)
    ]
    correlations = np.corrcoef(draws)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(20_000)


def test_every_bit_of_a_seed_counts():
    base = stateless_random.fold_in(SEED, 3).numpy()
    for change in ([1, 0], [0, 1], [2**62, 0], [0, 2**62]):
        other = stateless_random.fold_in(SEED + tf.constant(change, tf.int64), 3)
        assert (other.numpy() != base).all()


def test_dropout_keeps_the_mean_and_honours_the_noise_shape():
    ones = tf.ones([500, 40])
    dropped = stateless_random.dropout(ones, 0.25, SEED).numpy()
    assert set(np.unique(dropped)) == {0.0, np.float32(1 / 0.75)}
    assert abs(dropped.mean() - 1) < 0.02
    columns = stateless_random.dropout(ones, 0.5, SEED, noise_shape=(None, 1)).numpy()
    assert (columns.min(axis=1) == columns.max(axis=1)).all()
    np.testing.assert_array_equal(stateless_random.dropout(ones, 0, SEED), ones)


def centred(number):
    """The 32 low bits as a signed number, and what is left of the number."""
    low = (number + 2**31) % 2**32 - 2**31
    return low, (number - low) >> 32


def words(numbers):
    """The words high, low and finest of u = k 2^-96, int32 `[3, n]`."""
    found = []
    for k in numbers:
        finest, rest = centred(k)
        low, rest = centred(rest)
        found.append((centred(rest)[0], low, finest))
    return np.array(found, np.int32).T


@pytest.fixture
def drawn():
    """Normal numbers of chosen u and angles, `[2, n]`; in kernels, or compiled."""
    specification = [tf.TensorSpec([None], tf.int32)] * 4
    kept = {}

    def of(numbers, angle=0, compiled=False):
        if compiled not in kept:
            kept[compiled] = tf.function(
                stateless_random._box_muller,
                specification,
                autograph=False,
                jit_compile=compiled,
            )
        angles = np.broadcast_to(np.asarray(angle, np.int32), len(numbers))
        return kept[compiled](*words(numbers), angles).numpy()

    return of


def exact_radius(k):
    """sqrt(-2 log(k 2^-96)) by float64, from the nearer end."""
    u = Fraction(k, 2**96)
    logarithm = math.log(u) if u < Fraction(1, 2) else math.log1p(-float(1 - u))
    return math.sqrt(-2 * logarithm)


def numbers_of_every_scale():
    generator = np.random.default_rng(1)
    numbers = [1, 2**96 - 1, 2**95 - 1, 2**95, 2**64, 2**63, 2**32 - 1, 2**32]
    for bits in range(1, 96):
        mantissa = int(generator.integers(2**62)) | 2**61
        k = (mantissa << 40 >> (102 - bits)) | 1 << (bits - 1)
        numbers += [k, 2**96 - k]
    return numbers


@pytest.mark.parametrize("compiled", [False, True])
def test_the_radius_is_exact_at_every_scale(drawn, compiled):
    numbers = numbers_of_every_scale()
    # An angle of so few bits as pi 2^-32 is no angle.
    found = drawn(numbers, compiled=compiled)[0]
    expected = np.array([exact_radius(k) for k in numbers])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.min() > 0
    # The least u is half of the least k.
    least = drawn([0], compiled=compiled)[0]
    assert least == pytest.approx(math.sqrt(2 * 97 * math.log(2)), rel=1e-6)
    assert least == pytest.approx(11.596, abs=1e-3)


@pytest.mark.parametrize("compiled", [False, True])
def test_two_numbers_have_one_radius_and_one_angle(drawn, compiled):
    turns = np.arange(-(2**31), 2**31, 2**26 + 12345)
    k = 2**96 // 3
    angles = (turns + 0.5) * (math.pi * 2.0**-31)
    exact = exact_radius(k) * np.stack([np.cos(angles), np.sin(angles)])
    np.testing.assert_allclose(
        drawn([k] * len(turns), turns, compiled), exact, rtol=0, atol=5e-7
    )


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("bits", [0, -1, 2**31 - 1, -(2**31)])
def test_no_word_gives_an_infinity(monkeypatch, compiled, bits):
    monkeypatch.setattr(
        stateless_random,
        "integers",
        lambda shape, seed, dtype: tf.fill(shape, tf.constant(bits, dtype)),
    )
    seed = tf.constant([0, 0], tf.int64)
    draw = tf.function(
        lambda: stateless_random.normal([5], seed),
        autograph=False,
        jit_compile=compiled,
    )
    assert np.isfinite(draw().numpy()).all()


def test_every_word_is_of_one_radius_except_the_finest(monkeypatch):
    """128 radii share a finest word, and 2 numbers all others."""
    inner = stateless_random.integers
    rows, size = 3 * 128 + 1, 2 * 128 * 3
    base = inner([rows, 3], stateless_random.fold_in(SEED, 0), tf.int32).numpy()
    # Radii that depend on the finest word.
    base[:256, 1] = 0
    changed = []

    def patched(shape, seed, dtype):
        if dtype != tf.int32:
            return inner(shape, seed, dtype)
        assert tf.get_static_value(tf.convert_to_tensor(shape)).tolist() == [rows, 3]
        return tf.constant(changed[-1])

    monkeypatch.setattr(stateless_random, "integers", patched)

    def draw(row=None, column=1):
        changed.append(base.copy())
        if row is not None:
            changed[-1][row, column] ^= 1 << 30
        return stateless_random.normal([size], SEED).numpy().reshape(2, 128, 3)

    unchanged = draw()
    for row in (0, 127, 128, 255, 256, 383):
        differs = draw(row) != unchanged
        assert differs[:, row % 128, 1].all()
        assert differs.sum() == 2
    differs = draw(384) != unchanged
    assert differs[:, :, 1].all()
    assert not differs[:, :, [0, 2]].any()
    # Elsewhere j is large, and the finest word is beyond float32.
    np.testing.assert_array_equal(draw(384, column=0), unchanged)


def tails_by_bisection(drawn, quantiles, words_of_k):
    """P(X > x) from the bit patterns, by bisection through the real code."""
    # The angle far in the tail is small: x / cos(angle) grows by angle² x / 2.
    fractions = (np.arange(400) + 0.5) / 400
    angles = np.concatenate([fractions * 2.0**30] * len(quantiles)).astype(np.int64)
    limits = np.repeat(quantiles, len(fractions))
    least, most = [-1] * len(limits), [words_of_k] * len(limits)
    while any(high - low > 1 for low, high in zip(least, most)):
        middle = [(low + high) // 2 for low, high in zip(least, most)]
        above = drawn([max(k, 0) for k in middle], angles) > limits
        for index, (k, is_above) in enumerate(zip(middle, above)):
            if is_above and k >= 0:
                least[index] = k
            else:
                most[index] = k
    # Radii of k and less are above: so many words. Half of all angles have a positive
    # cosine, in two equal halves.
    shares = np.array([(k + 1) / words_of_k for k in least])
    return shares.reshape(len(quantiles), -1).mean(axis=1) / 2


TAILS = [0.1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12, 1e-14, 1e-16, 1e-18]


def test_tails_are_those_of_the_normal_distribution(drawn):
    found = tails_by_bisection(
        lambda numbers, angles: drawn(numbers, angles)[0],
        stats.norm.isf(TAILS),
        2**96,
    )
    np.testing.assert_allclose(found, TAILS, rtol=2e-3)


def test_a_radius_of_32_bits_has_no_such_tails():
    """The same measure finds a generator whose tails end at 6.8 deviations."""

    def drawn(numbers, angles):
        u = (np.array(numbers, np.float64) + 0.5) * 2.0**-32
        turns = (angles + 0.5) * math.pi * 2.0**-31
        return np.sqrt(-2 * np.log(u)) * np.cos(turns)

    found = tails_by_bisection(drawn, stats.norm.isf(TAILS), 2**32)
    near = np.abs(found / TAILS - 1) < 2e-3
    assert near[:3].all()
    assert not near[5:].any()
    assert (found[6:] == 0).all()


@pytest.mark.parametrize("shape", [(), [], (0,), [3, 0], (2, 3), tf.TensorShape([4])])
def test_normal_of_every_kind_of_shape(shape):
    drawn = stateless_random.normal(shape, tf.constant([1, 2], tf.int64))
    assert drawn.shape == tf.TensorShape(shape)
    assert drawn.dtype == tf.float32


class TestSeveralTensors:
    SHAPES = ([2, 3], [], [4], [0])

    @pytest.mark.parametrize(
        ("draws", "draw"),
        [
            (stateless_random.normals, stateless_random.normal),
            (stateless_random.uniforms, stateless_random.uniform),
        ],
    )
    def test_small_tensors_are_one_draw(self, draws, draw):
        seed = tf.constant([3, 4])
        found = draws(self.SHAPES, seed)
        flat = draw([11], seed).numpy()
        assert [part.shape.as_list() for part in found] == list(self.SHAPES)
        expected = np.split(flat, [6, 7, 11])
        for part, numbers in zip(found, expected):
            np.testing.assert_array_equal(np.ravel(part), numbers)

    def test_large_tensors_are_drawn_apart(self, monkeypatch):
        monkeypatch.setattr(stateless_random, "_TOGETHER", 6)
        seed = tf.constant([3, 4])
        found = stateless_random.normals([[4], [2], [9], [1], [5]], seed)
        groups = [
            stateless_random.normal([size], stateless_random.fold_in(seed, number))
            for number, size in enumerate((6, 9, 6))
        ]
        np.testing.assert_array_equal(tf.concat(found, 0), tf.concat(groups, 0))

    def test_no_tensors(self):
        assert stateless_random.normals([], tf.constant([3, 4])) == []
