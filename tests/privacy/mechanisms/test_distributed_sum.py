"""Distributed mechanisms on the real aggregation path, on both runtimes."""

from __future__ import annotations

import math

import noise_checks
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from client_noise import DIMENSION, MODE, as_process, client, step, value_type, vectors
from hypothesis import HealthCheck, given, settings, strategies as st

from tfl_research import privacy, processes, runtime
from tfl_research.privacy.accounting.distributed_plan import plan_distributed
from tfl_research.privacy.mechanisms.noise import client_seeds

FLOAT = tff.TensorType(np.float32)
CLIP = 2.0


def plan(mechanism="skellam", **changes):
    arguments = {
        "noise_multiplier": 0.0,
        "dimension": DIMENSION,
        "cohort_size": 4,
        "minimum_cohort_size": 1,
        "bits": 20,
    }
    return plan_distributed(mechanism, **{**arguments, **changes})


def mechanism(made, *, secure=True, noise_seed=2**100 + 7, clip=CLIP):
    build = {
        "discrete_gaussian": privacy.discrete_gaussian_aggregator,
        "skellam": privacy.skellam_aggregator,
    }[made.mechanism]
    return build(l2_norm_clip=clip, plan=made, noise_seed=noise_seed, secure=secure)


def clipped(vector):
    return vector * min(1.0, CLIP / np.linalg.norm(vector.astype(np.float64)))


@pytest.fixture(scope="module")
def noiseless():
    with runtime.in_process(as_process(mechanism(plan())), mode=MODE) as one:
        yield one


class TestWithoutNoise:
    def test_is_the_clipped_weighted_mean_up_to_rounding(self, noiseless):
        made, errors = plan(), []
        cohort = vectors(4)
        weights = [1.0, 0.5, 0.0, 3.0]
        state = noiseless.initialize()
        expected = sum(
            min(w, 1.0) * clipped(v) for w, v in zip(weights, cohort)
        ).astype(np.float64)
        clients = [client(v, i, w) for i, (v, w) in enumerate(zip(cohort, weights))]
        for _ in range(40):
            state, found, _ = step(noiseless, state, clients)
            errors.append((4 * found - expected) * made.clip_quanta / CLIP)
        # Each client's rounding has a standard deviation of at most half a quantum.
        assert np.abs(errors).max() < 6 * 0.5 * math.sqrt(4)
        # Unbiased. Rounding down would show up at once in the first coordinate, where
        # the rotation sends a constant.
        assert np.abs(np.mean(errors, axis=0)).max() < noise_checks.limit(
            DIMENSION
        ) / math.sqrt(40)
        assert np.std(errors) > 0.1

    def test_empty_cohort_releases_zero(self, noiseless):
        _, found, measured = step(noiseless, noiseless.initialize(), [])
        assert not found.any()
        assert measured == {
            "reporting_clients": 0,
            "released": 0,
            "noise_stddev": 0.0,
        }

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_an_update_that_is_not_finite_contributes_nothing(self, noiseless, bad):
        good, broken = vectors(2)
        broken[3] = bad
        both = [client(good, 0), client(broken, 1)]
        found = step(noiseless, noiseless.initialize(), both)[1]
        alone = step(noiseless, noiseless.initialize(), both[:1])[1]
        np.testing.assert_array_equal(found, alone)


WILD = st.one_of(
    st.floats(-2, 2, width=32),
    st.sampled_from([0.0, np.nan, np.inf, -np.inf, 1e30, -3e38, 1e-40]),
)
CLIENT = st.tuples(st.lists(WILD, min_size=DIMENSION, max_size=DIMENSION), WILD)


class TestSensitivity:
    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(others=st.lists(CLIENT, max_size=3), one=CLIENT)
    def test_one_client_on_the_real_path(self, noiseless, others, one):
        """Zeroing one client moves the sum by at most the event's sensitivity."""
        made = plan()
        state = noiseless.initialize()

        def total(clients):
            cohort = [client(v, i, w) for i, (v, w) in enumerate(clients)]
            return 4 * step(noiseless, state, cohort)[1].astype(np.float64)

        zeroed = ([0.0] * DIMENSION, 1.0)
        moved = total([*others, one]) - total([*others, zeroed])
        quanta = np.linalg.norm(moved) * made.clip_quanta / CLIP
        assert quanta <= made.l2_sensitivity * (1 + 1e-5)

    @pytest.mark.parametrize("bits", [6, 8, 20])
    @pytest.mark.parametrize("bias", [0.0, math.exp(-0.5)])
    def test_integers_stay_within_it_exactly(self, bits, bias):
        made = plan(bits=bits, rounding_bias=bias, cohort_size=1)
        aggregator = mechanism(made)
        common = tf.constant([1, 2], tf.int64)

        @tf.function(autograph=False)
        def encode(vector, seed):
            return aggregator.encode([vector], tf.constant(1.0), common, seed)[0]

        longest = 0
        for trial, vector in enumerate(100 * vectors(60, seed=bits)):
            sent = encode(tf.constant(vector), tf.constant([trial, 0], tf.int64))
            centred = (sent.numpy() + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
            longest = max(longest, int((centred**2).sum()))
            l1 = math.sqrt(16) * made.l2_sensitivity
            assert np.abs(centred).sum() <= min(l1, made.l2_sensitivity**2) + 1e-9
        assert longest <= made.squared_norm_bound
        assert longest >= 0.5 * made.squared_norm_bound


class TestModulus:
    def test_sums_wrap_around(self):
        """Sums within half the modulus are exact, others are off by the modulus."""
        made = plan(bits=8, rounding_bias=0.0)
        aggregator = mechanism(made)
        common = tf.constant([3, 1], tf.int64)
        updates = [tf.constant(CLIP * np.eye(DIMENSION)[0], tf.float32)] * 40
        sent = [
            aggregator.encode(
                [u], tf.constant(1.0), common, tf.constant([i, 0], tf.int64)
            )[0].numpy()
            for i, u in enumerate(updates)
        ]
        assert np.min(sent) >= 0
        assert np.max(sent) < 256
        centred = (np.array(sent) + 128) % 256 - 128
        for count in (1, 4, 40):
            true = centred[:count].sum(axis=0)
            wrapped = (true + 128) % 256 - 128
            if count == 40:
                assert np.abs(true).max() > 128
            else:
                np.testing.assert_array_equal(wrapped, true)
            # Whatever multiple of the modulus the sum arrives with.
            for total in (np.sum(sent[:count], axis=0), wrapped % 256):
                found = aggregator.decode(tf.constant(total), common).numpy()
                exact = aggregator.decode(tf.constant(wrapped), common).numpy()
                np.testing.assert_array_equal(found, exact)
                spread = np.linalg.norm(found) * aggregator.scale
                assert spread <= np.linalg.norm(wrapped) * (1 + 1e-5)


class TestNoise:
    SIZE = 4096
    SHAPES = ((4096,),)

    def made(self, kind):
        return plan(
            kind,
            noise_multiplier=0.5,
            dimension=self.SIZE,
            minimum_cohort_size=3,
            overflow_stddevs=6.0,
        )

    @pytest.fixture(scope="class", params=["discrete_gaussian", "skellam"])
    def draws(self, request):
        """(plan, noise of 3 rounds of 4 clients with the same update, measurements)."""
        made = self.made(request.param)
        process = as_process(mechanism(made), self.SHAPES)
        update = np.full(self.SIZE, 0.01, np.float32)
        with runtime.in_process(process, mode=MODE) as engine:
            state, rounds = engine.initialize(), []
            for _ in range(3):
                clients = [client(update, i, shapes=self.SHAPES) for i in range(4)]
                state, found, measured = step(engine, state, clients)
                rounds.append(found - update)
            few = step(engine, state, clients[:2])
        return made, np.array(rounds, np.float64), measured, few

    def test_size(self, draws):
        made, noise, measured, _ = draws
        quantum = CLIP / made.clip_quanta
        expected = made.share_stddev * math.sqrt(4) * quantum / 4
        assert measured["noise_stddev"] == pytest.approx(expected, rel=1e-5)
        assert measured["reporting_clients"] == 4
        # Rounding adds at most a quarter of a quantum squared a client. Clients whose
        # noise were the same would double the deviation. The rotation back makes
        # coordinates normal, of fourth moment 3σ⁴.
        most = expected**2 + 4 * 0.25 * (quantum / 4) ** 2
        noise_checks.check_variance(noise, most, 3 * most**2, least=expected**2)

    def test_rounds_and_coordinates_are_uncorrelated(self, draws):
        noise_checks.check_uncorrelated(draws[1].reshape(6, -1))

    def test_too_few_clients_release_nothing(self, draws):
        _, found, measured = draws[3]
        assert not found.any()
        assert measured == {
            "reporting_clients": 2,
            "released": 0,
            "noise_stddev": 0.0,
        }


class TestRuntimes:
    @pytest.fixture(scope="class")
    def rounds(self):
        """Results of three rounds, by (secure, runtime)."""
        made = plan("discrete_gaussian", noise_multiplier=0.7)
        clients = [client(v, i) for i, v in enumerate(vectors(4))]
        results, states = {}, {}
        for secure in (True, False):
            process = as_process(mechanism(made, secure=secure))
            engines = {"in_process": runtime.in_process(process, mode=MODE)}
            if not secure:
                engines["tff"] = runtime.tff_local(process)
            for name, engine in engines.items():
                with engine:
                    state = engine.initialize()
                    found, kept = [], []
                    for _ in range(3):
                        kept.append(state)
                        state, result, _ = step(engine, state, clients)
                        found.append(result)
                    again = step(engine, kept[1], clients)[1]
                results[secure, name], states[secure, name] = np.array(found), again
        return results, states

    def test_secure_and_plain_sums_are_the_same_numbers(self, rounds):
        results, _ = rounds
        np.testing.assert_array_equal(
            results[True, "in_process"], results[False, "in_process"]
        )

    def test_tffs_runtime_gives_the_same(self, rounds):
        results, _ = rounds
        # Rounding of a float may differ, and with it a quantum now and then.
        quantum = CLIP / plan("discrete_gaussian", noise_multiplier=0.7).clip_quanta
        difference = results[False, "tff"] - results[False, "in_process"]
        assert np.abs(difference).max() <= 2 * quantum

    def test_a_resumed_round_is_the_same_draw(self, rounds):
        results, again = rounds
        for key, found in again.items():
            np.testing.assert_array_equal(found, results[key][1])
        rows = results[True, "in_process"]
        assert len({tuple(row) for row in rows}) == 3


class TestFedAvg:
    def test_clients_get_their_cohorts_seeds(self, make_linear_task, two_clients):
        task = make_linear_task(two_clients)
        made = plan(
            noise_multiplier=0.5, dimension=3, cohort_size=2, minimum_cohort_size=2
        )
        process = processes.build_fed_avg(
            task,
            client_optimizer=tff.learning.optimizers.build_sgdm(0.1),
            aggregator=mechanism(made, secure=False),
            client_weighting=processes.uniform(),
        )

        def train(engine, seed):
            """The weights after one round, and the aggregator's measurements."""
            cohort = task.train.cohort(["a", "b"], seed=seed, round_number=1)
            state, metrics = engine.next(engine.initialize(), cohort)
            weights = state.global_model_weights.trainable
            return np.concatenate([np.ravel(w) for w in weights]), metrics["aggregator"]

        with runtime.in_process(process, mode=MODE) as engine:
            # Nothing is shuffled: the cohorts differ in their clients' seeds alone.
            draws = np.array([train(engine, seed)[0] for seed in range(40)])
            again, measured = train(engine, 0)
        with runtime.tff_local(process) as engine:
            other, _ = train(engine, 0)
        np.testing.assert_array_equal(again, draws[0])
        np.testing.assert_allclose(other, again, atol=4 * CLIP / made.clip_quanta)
        # 120 draws of the noise, 1/√(2n) being a deviation's standard error.
        stddev = float(measured["noise_stddev"])
        slack = noise_checks.limit(1) / math.sqrt(2 * 120)
        assert draws.std(axis=0).mean() == pytest.approx(stddev, rel=slack)


class TestBadSettings:
    def test_weights_without_seeds(self):
        with pytest.raises(ValueError, match="seeds of their own"):
            mechanism(plan()).create(value_type(), FLOAT)

    def test_other_values(self):
        integers = tff.TensorType(np.int32, [DIMENSION])
        with pytest.raises(ValueError, match="float32"):
            mechanism(plan()).create(integers, client_seeds.seeded_weight_type())
        with pytest.raises(ValueError, match="dimension=14"):
            mechanism(plan(dimension=15)).create(
                value_type(), client_seeds.seeded_weight_type()
            )

    @pytest.mark.parametrize("clip", [0.0, math.nan, -1.0])
    def test_clip(self, clip):
        with pytest.raises(ValueError, match="l2 norm clip must be positive"):
            mechanism(plan(), clip=clip)

    def test_another_mechanisms_plan(self):
        with pytest.raises(ValueError, match="expected 'discrete_gaussian'"):
            privacy.discrete_gaussian_aggregator(
                l2_norm_clip=1.0, plan=plan("skellam"), noise_seed=0
            )
