"""Streamed matrix noise against the dense C^-1 ξ, and its distribution."""

from __future__ import annotations

import functools

import noise_checks
import noise_stream
import numpy as np
import pytest
import tensorflow as tf

from tfl_research.privacy.mechanisms import noised_sum
from tfl_research.privacy.mechanisms.noise import factorization
from tfl_research.privacy.mechanisms.noise.matrix_noise import MatrixNoise
from tfl_research.privacy.mechanisms.noise.noise_processes import noise

SEED = noised_sum.seed_tensor(2**90 + 11)
stream = functools.partial(noise_stream.stream, seed=SEED)


def independent(rounds, size):
    """ξ of so many rounds, float64 `[rounds, size]`."""

    @tf.function(autograph=False)
    def draw(numbers):
        def one(number):
            return noise(SEED, number, 1, tf.zeros([size]))

        return tf.map_fn(one, numbers, fn_output_signature=tf.float32)

    return draw(tf.range(rounds)).numpy().astype(np.float64)


def blocks_of(factor, rounds):
    """C of the rounds, begun anew after its last row: `[rounds, rounds]`."""
    whole = np.zeros((rounds, rounds))
    for begun in range(0, rounds, factor.rounds):
        size = min(factor.rounds, rounds - begun)
        whole[begun : begun + size, begun : begun + size] = factor.dense()[:size, :size]
    return whole


@pytest.mark.parametrize(
    ("size", "bands", "rounds"), [(24, 6, 24), (24, 24, 24), (10, 4, 27)]
)
def test_is_the_dense_computation(size, bands, rounds):
    factor, shapes = factorization.banded_factor(size, bands, cache=False), [(2, 3), ()]
    found, _ = stream(MatrixNoise(factor.rows), rounds, shapes)
    xi = independent(rounds, 7)
    expected = np.linalg.solve(blocks_of(factor, rounds), xi)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)


def test_many_rounds_and_bands_keep_float32s_precision():
    factor = factorization.banded_factor(1500, 100, cache=False)
    found, _ = stream(MatrixNoise(factor.rows), 1500, [(3,)])
    expected = np.linalg.solve(factor.dense(), independent(1500, 3))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    # Errors do not add up in the prefix sums either, whose noise is of size 1 to 5.
    np.testing.assert_allclose(found.cumsum(0), expected.cumsum(0), atol=1e-3)


def test_one_band_is_independent_noise():
    factor = factorization.banded_factor(5, 1, cache=False)
    found, _ = stream(MatrixNoise(factor.rows), 12, [(4,)])
    np.testing.assert_array_equal(found, independent(12, 4))


def test_resumes_bit_identically_with_the_matrix_it_began_with():
    process = MatrixNoise(factorization.banded_factor(8, 3, cache=False).rows)
    other = factorization.banded_factor(8, 3, momentum=0.9, cache=False).rows
    whole, _ = stream(process, 20, [(5,)])
    for stop in (1, 7, 8, 13):
        _, state = stream(process, stop, [(5,)])
        rest, _ = stream(MatrixNoise(other), 20 - stop, [(5,)], state=state, first=stop)
        np.testing.assert_array_equal(rest, whole[stop:])


def test_released_noise_is_distributed_as_declared():
    """C times the released rounds are independent normals."""
    rounds, size = 20, 20_000
    factor = factorization.banded_factor(8, 4, cache=False)
    drawn, _ = stream(MatrixNoise(factor.rows), rounds, [(size,)])
    noise_checks.check_normal(blocks_of(factor, rounds) @ drawn)


def test_the_released_prefix_sums_err_as_the_factor_says():
    factor = factorization.banded_factor(32, 8, cache=False)
    drawn, _ = stream(MatrixNoise(factor.rows), 32, [(20_000,)])
    found = np.sqrt(np.mean(np.cumsum(drawn, axis=0) ** 2))
    expected = factor.error(factorization.workload_matrix(32))
    # Correlated over rounds, so that 20000 count: a standard error of 1/√(2n).
    slack = noise_checks.limit(1) / np.sqrt(40_000)
    assert found == pytest.approx(expected, rel=slack)


def test_unknown_shapes_are_refused():
    process = MatrixNoise(factorization.banded_factor(4, 2, cache=False).rows)
    with pytest.raises(ValueError, match="known shape"):
        process.initial_state([(None, 3)])
