"""Clipping and noise of DP-SGD: against tensorflow-privacy, and as a distribution."""

from __future__ import annotations

import noise_checks
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_privacy as tfp
from hypothesis import given, settings, strategies as st
from scipy import stats

from tfl_research.clients.record_privacy import record_noise

SPECS = (tf.TensorSpec([20, 5], tf.float32), tf.TensorSpec([5], tf.float32))


def clipped(gradients, clip, mask=None):
    """float32 [records, 105] gradients, clipped as two tensors, put together again."""
    gradients = np.asarray(gradients, np.float32)
    mask = np.ones(len(gradients), bool) if mask is None else mask
    parts = [gradients[:, :100].reshape(-1, 20, 5), gradients[:, 100:]]
    found = record_noise.clipped_records(
        [tf.constant(p) for p in parts], tf.constant(mask), clip
    )
    return np.concatenate([np.reshape(p, (len(gradients), -1)) for p in found], axis=1)


def some_gradients(scales, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(len(scales), 105)) * np.asarray(scales)[:, None]


class TestClip:
    def test_the_sum_is_that_of_tensorflow_privacys_query(self):
        """`GaussianSumQuery` without noise, over records of all sizes."""
        gradients = some_gradients([0.0, 1e-3, 0.09, 0.1, 1.0, 30.0, 1e6])
        query = tfp.GaussianSumQuery(l2_norm_clip=1.0, stddev=0.0)
        state = query.initial_global_state()
        parameters = query.derive_sample_params(state)
        template = [tf.zeros([20, 5]), tf.zeros([5])]
        total = query.initial_sample_state(template)
        for g in gradients.astype(np.float32):
            record = [tf.constant(g[:100].reshape(20, 5)), tf.constant(g[100:])]
            total = query.accumulate_record(parameters, total, record)
        theirs, _, _ = query.get_noised_result(total, state)
        theirs = np.concatenate([np.ravel(t) for t in theirs])
        ours = clipped(gradients, 1.0).sum(axis=0)
        np.testing.assert_allclose(ours, theirs, atol=3e-6)
        assert np.linalg.norm(ours) > 1

    def test_what_is_inside_stays_to_the_bit(self):
        gradients = some_gradients([0.01, 0.05]).astype(np.float32)
        np.testing.assert_array_equal(clipped(gradients, 1.0), gradients)

    def test_what_is_outside_keeps_its_direction(self):
        gradients = some_gradients([1.0, 1e3, 1e18, 1e36], seed=1)
        found = clipped(gradients, 0.7)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 0.7, rtol=1e-6)
        cosine = (found * gradients).sum(axis=1) / np.linalg.norm(gradients, axis=1)
        np.testing.assert_allclose(cosine, 0.7, rtol=1e-6)

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(
            st.sampled_from([0.0, 1.0, -1e-38, 1e20, 3.4e38, np.nan, np.inf, -np.inf]),
            min_size=105,
            max_size=105,
        ),
        st.sampled_from([1e-6, 1.0, 1e6]),
    )
    def test_no_record_exceeds_the_clip_or_stops_being_finite(self, record, clip):
        (found,) = clipped([record], clip)
        assert np.isfinite(found).all()
        norm = np.linalg.norm(found.astype(np.float64))
        assert norm <= clip * (1 + 1e-6)
        if not np.isfinite(record).all():
            assert not found.any()

    def test_records_do_not_touch_each_other(self):
        gradients = some_gradients([1.0, 1.0, 1.0]).astype(np.float32)
        alone = clipped(gradients[2:], 0.5)[0]
        gradients[0, 3] = np.nan
        found = clipped(gradients, 0.5, np.array([True, False, True]))
        assert not found[:2].any()
        np.testing.assert_array_equal(found[2], alone)


def noise(seed, step, specs=SPECS):
    seed = tf.constant(np.asarray(seed, np.int64))
    parts = record_noise.step_noise(seed, tf.constant(step), specs)
    for part, spec in zip(parts, specs):
        assert part.shape == spec.shape
    return np.concatenate([np.ravel(p) for p in parts]).astype(np.float64)


class TestNoise:
    @pytest.fixture(scope="class")
    def draws(self):
        """[seeds, steps, coordinates]"""
        seeds = np.random.default_rng(1).integers(-(2**62), 2**62, (8, 2))
        return np.array([[noise(s, k) for k in range(12)] for s in seeds])

    def test_is_a_function_of_seed_and_step(self):
        np.testing.assert_array_equal(noise([1, 2], 3), noise([1, 2], 3))
        for other in (([1, 3], 3), ([2, 2], 3), ([1, 2], 4)):
            assert (noise(*other) != noise([1, 2], 3)).all()

    def test_is_standard_normal_and_independent(self, draws):
        """Of seeds, steps and coordinates, each against all the others."""
        for axis in range(3):
            rows = np.moveaxis(draws, axis, 0)
            rows = rows.reshape(len(rows), -1)
            noise_checks.check_normal(rows, lags=(1, 2, rows.shape[1] // 2))
        # Every pair of the 96 draws, as vectors.
        noise_checks.check_normal(draws.reshape(96, -1), lags=(1, 52))

    def test_of_one_step_is_as_tensorflow_privacys(self):
        """Standard deviation z · clip of the sum, as `GaussianSumQuery` adds it."""
        z, clip = 1.7, 0.3
        query = tfp.GaussianSumQuery(l2_norm_clip=clip, stddev=z * clip)
        state = query.initial_global_state()
        big = (tf.TensorSpec([20000], tf.float32),)
        theirs, _, _ = query.get_noised_result([tf.zeros([20000])], state)
        ours = z * clip * noise([11, 12], 0, big)
        alarm = noise_checks.FALSE_ALARM
        assert stats.ks_2samp(ours, theirs[0].numpy()).pvalue > alarm
