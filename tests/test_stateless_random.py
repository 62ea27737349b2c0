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


def words(numbers, angle=0):
    """What `normal` draws for u = (k + 1/2) 2^-96 and an angle of 32 bits."""
    first, second = [], []
    for k, turn in zip(numbers, np.broadcast_to(angle, len(numbers))):
        upper = k >= 2**95
        rest = 2**96 - 1 - k if upper else k
        high, low = rest >> 32, rest % 2**32
        first.append(~high if upper else high)
        word = (low << 32) + int(turn) % 2**32
        second.append(word - 2**64 if word >= 2**63 else word)
    return np.array([first, second], np.int64)


@pytest.fixture
def drawn(monkeypatch):
    """`normal` of chosen words, in TensorFlow's own kernels or compiled."""
    integers = stateless_random.integers

    def of(numbers, angle=0, compiled=False):
        chosen = words(numbers, angle)

        def patched(shape, seed, dtype):
            if not tf.is_tensor(shape):
                return integers(shape, seed, dtype)
            assert dtype == tf.int64
            return tf.constant(chosen)

        with monkeypatch.context() as patches:
            patches.setattr(stateless_random, "integers", patched)
            draw = tf.function(
                lambda: stateless_random.normal([len(numbers)], SEED),
                autograph=False,
                jit_compile=compiled,
            )
            return draw().numpy()

    return of


def exact_radius(k):
    """sqrt(-2 log((k + 1/2) 2^-96)) by float64, from the nearer end."""
    u = Fraction(2 * k + 1, 2**97)
    logarithm = math.log(u) if u < Fraction(1, 2) else math.log1p(-float(1 - u))
    return math.sqrt(-2 * logarithm)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_radius_is_exact_at_every_scale(drawn, compiled):
    generator = np.random.default_rng(1)
    numbers = [0, 1, 2**96 - 1, 2**95 - 1, 2**95, 2**64, 2**63, 2**32 - 1, 2**32]
    for bits in range(1, 96):
        mantissa = int(generator.integers(2**62)) | 2**61
        k = (mantissa << 40 >> (102 - bits)) | 1 << (bits - 1)
        numbers += [k, 2**96 - 1 - k]
    # A radius of so few bits as 2^-97 has is still a radius.
    found = drawn(numbers, compiled=compiled)
    expected = np.array([exact_radius(k) for k in numbers])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.max() == pytest.approx(11.596, abs=1e-3)
    assert found.min() > 0


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("bits", [0, -1, 2**63 - 1, -(2**63)])
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


def test_tails_are_those_of_the_normal_distribution(drawn):
    """P(X > x) from the bit patterns, by bisection through the real code."""
    tails = [0.1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12, 1e-14, 1e-16, 1e-18]
    quantiles = stats.norm.isf(tails)
    # The angle far in the tail is small: x / cos(angle) grows by angle² x / 2.
    fractions = (np.arange(400) + 0.5) / 400
    least, most = [], []
    angles = np.concatenate([fractions * 2.0**30] * len(tails)).astype(np.int64)
    limits = np.repeat(quantiles, len(fractions))
    least, most = [-1] * len(limits), [2**96 - 1] * len(limits)
    for _ in range(96):
        middle = [(low + high) // 2 for low, high in zip(least, most)]
        above = drawn([max(k, 0) for k in middle], angles) > limits
        for index, (k, is_above) in enumerate(zip(middle, above)):
            if is_above and k >= 0:
                least[index] = k
            else:
                most[index] = k
    # Radii of k and less are above: so many words of 2^96. Half of all angles have a
    # positive cosine, in two equal halves.
    shares = np.array([(k + 1) / 2.0**96 for k in least]).reshape(len(tails), -1)
    np.testing.assert_allclose(shares.mean(axis=1) / 2, tails, rtol=2e-3)


@pytest.mark.parametrize("shape", [(), [], (0,), [3, 0], (2, 3), tf.TensorShape([4])])
def test_normal_of_every_kind_of_shape(shape):
    drawn = stateless_random.normal(shape, tf.constant([1, 2], tf.int64))
    assert drawn.shape == tf.TensorShape(shape)
    assert drawn.dtype == tf.float32
