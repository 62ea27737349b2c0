"""Local differential privacy: the event in closed form, the noise at the clients."""

from __future__ import annotations

import math

import dp_accounting
import noise_checks
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from client_noise import DIMENSION, MODE, as_process, client, step, vectors
from dp_accounting import pld, rdp
from hypothesis import HealthCheck, given, settings, strategies as st

from tfl_research import privacy, runtime
from tfl_research.privacy.accounting import events
from tfl_research.privacy.accounting.events.local_gaussian_event import (
    LocalGaussianEvent,
)
from tfl_research.privacy.mechanisms.local_gaussian import noised_update
from tfl_research.privacy.mechanisms.noise import client_seeds


def event(noise_multiplier=4.0, **changes):
    arguments = {"population": 50, "cohort_size": 10.0}
    return LocalGaussianEvent(noise_multiplier, **{**arguments, **changes})


class TestEvent:
    def test_against_dp_accounting(self):
        # Sensitivity 2S and noise 4S: a Gaussian of noise multiplier 2.
        gaussian = dp_accounting.GaussianDpEvent(2.0)
        for accountant, reference in (
            ("pld", pld.PLDAccountant()),
            ("rdp", rdp.RdpAccountant()),
        ):
            reference.compose(gaussian, 12)
            expected = reference.get_epsilon(1e-5)
            found = event().epsilon(12, 1e-5, accountant)
            assert found == pytest.approx(expected, rel=1e-3)
            curve = event().epsilon_curve(12, 1e-5, accountant)
            assert curve[-1] == pytest.approx(found, rel=1e-12)
            assert np.all(np.diff(curve) > 0)

    def test_by_hand(self):
        assert event().effective_noise_multiplier(4) == 1.0
        assert event().zcdp(4) == 0.5
        np.testing.assert_allclose(event().rdp(4, np.array([2.0, 3.0])), [1.0, 1.5])

    def test_cohorts_do_not_amplify(self):
        one = event().epsilon(5, 1e-5, "pld")
        assert event(cohort_size=1.0).epsilon(5, 1e-5, "pld") == one

    def test_no_noise_is_no_privacy(self):
        silent = event(0.0)
        assert silent.epsilon(1, 1e-5, "pld") == silent.zcdp(1) == math.inf
        assert np.isinf(silent.rdp(1, np.array([2.0]))).all()

    def test_plain_data(self):
        assert events.event_from_dict(event().to_dict()) == event()
        assert event().unit == "client"
        assert "against the server" in " ".join(event().description())

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"noise_multiplier": -1.0}, "noise_multiplier"),
            ({"neighbouring_relation": "add_or_remove_one"}, "replace_one"),
            ({"cohort_size": 51.0}, "cohort_size"),
        ],
    )
    def test_bad_fields(self, changes, message):
        with pytest.raises(ValueError, match=message):
            event(**changes)


WILD = st.one_of(
    st.floats(-2, 2, width=32),
    st.sampled_from([0.0, np.nan, np.inf, -np.inf, 1e30, -3e38, 1e-40]),
)
CLIENT = st.tuples(st.lists(WILD, min_size=DIMENSION, max_size=DIMENSION), WILD)


def mechanism(noise_multiplier=1.5, **changes):
    arguments = {
        "l2_norm_clip": 2.0,
        "noise_multiplier": noise_multiplier,
        "expected_cohort_size": 4.0,
        "noise_seed": 2**100 + 9,
    }
    return privacy.local_gaussian_aggregator(**{**arguments, **changes})


class TestAggregation:
    SHAPES = ((100, 40), (96,))

    @pytest.fixture(scope="class")
    def rounds(self):
        """(noise of rounds with the same update at 4 clients, resumed, on TFF)."""
        process = as_process(mechanism(), self.SHAPES)
        update = np.full(4096, 0.01, np.float32)
        clients = [client(update, i, shapes=self.SHAPES) for i in range(4)]
        with runtime.in_process(process, mode=MODE) as engine:
            states, found, alone = [engine.initialize()], [], []
            for _ in range(3):
                # What each client sends, as a cohort of its own.
                alone += [
                    4 * step(engine, states[-1], [one])[1] - update for one in clients
                ]
                state, result, measured = step(engine, states[-1], clients)
                states.append(state)
                found.append(result - update)
            resumed = step(engine, states[1], clients)[1] - update
            empty = step(engine, states[0], [])[1]
        with runtime.tff_local(process) as engine:
            theirs = step(engine, engine.initialize(), clients)[1] - update
        single = np.array(alone, np.float64)
        return np.array(found, np.float64), measured, resumed, theirs, empty, single

    def test_every_client_draws_noise_of_its_own_every_round(self, rounds):
        """Twelve draws, of 4 clients in 3 rounds: each of stddev zS a coordinate, and
        independent of the others and across coordinates and tensors."""
        single = rounds[5]
        assert single.shape == (12, 4096)
        noise_checks.check_normal(single.reshape(24, -1), 1.5 * 2.0)

    def test_tensors_of_one_shape_get_noise_of_their_own(self):
        sent = noised_update(
            [tf.zeros([512]), tf.zeros([512])],
            tf.constant(1.0),
            tf.constant([3, 4], tf.int64),
            l2_norm_clip=2.0,
            stddev=tf.constant(1.5 * 2.0),
        )
        noise_checks.check_normal(np.array(sent, np.float64), 1.5 * 2.0)

    def test_noise_of_every_client_is_in_the_mean(self, rounds):
        noise, measured, single = *rounds[:2], rounds[5]
        expected = 1.5 * 2.0 * math.sqrt(4) / 4
        assert measured["noise_stddev"] == pytest.approx(expected)
        assert measured["reporting_clients"] == 4
        means = single.reshape(3, 4, -1).mean(axis=1)
        np.testing.assert_allclose(noise, means, atol=2e-5)
        noise_checks.check_normal(noise.reshape(6, -1), expected)

    def test_resumed_round_is_the_same_draw(self, rounds):
        noise, resumed = rounds[0], rounds[2]
        np.testing.assert_array_equal(resumed, noise[1].astype(np.float32))

    def test_tffs_runtime_gives_the_same(self, rounds):
        np.testing.assert_allclose(rounds[3], rounds[0][0], atol=2e-5)

    def test_empty_cohort_is_zero(self, rounds):
        assert not rounds[4].any()

    @pytest.fixture(scope="class")
    def silent(self):
        process = as_process(mechanism(0.0))
        with runtime.in_process(process, mode=MODE) as engine:
            yield engine

    def test_without_noise_it_is_the_clipped_mean(self, silent):
        cohort = 3 * vectors(3)
        clients = [client(v, i, w) for i, (v, w) in enumerate(zip(cohort, [1, 9, 0.5]))]
        found = step(silent, silent.initialize(), clients)[1]
        norms = np.linalg.norm(cohort, axis=1)
        scaled = cohort * np.minimum(1, 2 / norms)[:, None] * [[1], [1], [0.5]]
        np.testing.assert_allclose(found, scaled.sum(axis=0) / 4, atol=1e-6)
        assert len(found) == DIMENSION

    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(one=CLIENT, other=CLIENT, others=st.lists(CLIENT, max_size=2))
    def test_what_a_client_sends_moves_by_at_most_twice_the_clip(
        self, silent, one, other, others
    ):
        """Replacing all that a client has by anything else: what the event charges,
        whose noise is z/2 of the sensitivity; the same of the server's sum."""
        assert event(1.5).effective_noise_multiplier(1) == 1.5 / 2

        def total(clients):
            cohort = [client(v, i, w) for i, (v, w) in enumerate(clients)]
            mean = step(silent, silent.initialize(), cohort)[1]
            return 4 * mean.astype(np.float64)

        for cohort in ([], others):
            sent = [total([one, *cohort]), total([other, *cohort])]
            assert np.linalg.norm(sent[0] - sent[1]) <= 2 * 2.0 * (1 + 1e-6)
            if not cohort:
                assert max(map(np.linalg.norm, sent)) <= 2.0 * (1 + 1e-6)

    def test_opposite_updates_do_move_it_by_that(self, silent):
        huge = np.full(DIMENSION, 1e30)
        ends = [
            4 * step(silent, silent.initialize(), [client(v, 0)])[1]
            for v in (huge, -huge)
        ]
        assert np.linalg.norm(ends[0] - ends[1]) == pytest.approx(4.0, rel=1e-5)

    def test_needs_seeds(self):
        with pytest.raises(ValueError, match="seeds of their own"):
            mechanism().create(
                tff.TensorType(np.float32, [3]), tff.TensorType(np.float32)
            )
        with pytest.raises(ValueError, match="float32"):
            mechanism().create(
                tff.TensorType(np.int32, [3]), client_seeds.seeded_weight_type()
            )

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"noise_multiplier": math.nan}, "noise_multiplier"),
            ({"l2_norm_clip": 0.0}, "l2 norm clip must be positive"),
            ({"expected_cohort_size": 0.0}, "expected_cohort_size must be positive"),
        ],
    )
    def test_bad_settings(self, changes, message):
        with pytest.raises(ValueError, match=message):
            mechanism(**changes)


def test_the_common_seed_of_a_round_does_not_tell_the_private_one():
    """Folds of one seed differ by a known number."""
    for number in range(3):
        common, private = client_seeds.round_seeds(
            tf.constant([3, 4], tf.int64), number
        )
        assert (common.numpy() != private.numpy()).all()
