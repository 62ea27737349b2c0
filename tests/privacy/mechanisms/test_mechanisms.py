"""The mechanisms: sums by hand, sensitivity, noise, clip.

Tests of few rounds run on TFF's runtime. Those of hundreds run on an engine in this
process, where a round takes a tenth of the time.
"""

from __future__ import annotations

import collections
import functools

import noise_checks
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from hypothesis import HealthCheck, given, settings, strategies as st

from tfl_research import privacy, runtime
from tfl_research.privacy.mechanisms import noised_sum

FLOAT = tff.TensorType(np.float32)
VALUE_TYPE = tff.StructWithPythonType(
    [(None, tff.TensorType(np.float32, [3])), (None, tff.TensorType(np.float32, [2]))],
    tuple,
)


pytestmark = pytest.mark.usefixtures("on_a_worker")


def gaussian(**changes):
    arguments = {
        "l2_norm_clip": 1.0,
        "noise_multiplier": 0.0,
        "expected_cohort_size": 4.0,
        "noise_seed": 2**100 + 12345,
    }
    return privacy.gaussian_aggregator(**{**arguments, **changes})


def adaptive(**changes):
    arguments = {
        "initial_l2_norm_clip": 1.0,
        "target_unclipped_quantile": 0.5,
        "clip_learning_rate": 0.2,
        "noise_multiplier": 0.0,
        "expected_cohort_size": 10.0,
        "noise_seed": 99,
    }
    return privacy.adaptive_gaussian_aggregator(**{**arguments, **changes})


def bounded(**changes):
    arguments = {
        "l2_norm_clip": 1.0,
        "noise_multiplier": 0.0,
        "expected_cohort_weight": 2.0,
        "noise_seed": 17,
    }
    return privacy.bounded_weight_aggregator(**{**arguments, **changes})


def build(mechanism, value_type=VALUE_TYPE):
    return mechanism.create(value_type, FLOAT)


class InProcess:
    """A mechanism's process on an engine in this process.

    It has `initialize` and `next` as TFF's processes have them.
    """

    def __init__(self, mechanism):
        built = build(mechanism)
        state_type = built.initialize.type_signature.result
        pair = tff.StructWithPythonType(
            [("value", VALUE_TYPE), ("weight", FLOAT)], dict
        )
        value_of = tff.tensorflow.computation(lambda client: client["value"], pair)
        weight_of = tff.tensorflow.computation(lambda client: client["weight"], pair)

        @tff.federated_computation(state_type, tff.FederatedType(pair, tff.CLIENTS))
        def next_round(state, clients):
            output = built.next(
                state,
                tff.federated_map(value_of, clients),
                tff.federated_map(weight_of, clients),
            )
            return output.state, tff.federated_zip(
                collections.OrderedDict(
                    result=output.result, measurements=output.measurements
                )
            )

        self._engine = runtime.in_process(
            tff.templates.IterativeProcess(built.initialize, next_round),
            mode=runtime.Mode("folded", "graph"),
            chunk_size=8,
        )
        self.initialize = self._engine.initialize

    def next(self, state, values, weights):
        """A round of clients with these values and weights."""
        clients = [{"value": v, "weight": w} for v, w in zip(values, weights)]
        state, found = self._engine.next(state, clients)
        return Output(state, found["result"], found["measurements"])


Output = collections.namedtuple("Output", ["state", "result", "measurements"])


def pack(vector):
    vector = np.asarray(vector, np.float32)
    return (vector[:3], vector[3:])


def step(process, state, vectors, weights=None):
    """One round of five-dimensional values: (state, aggregate [5], measurements)."""
    weights = [1.0] * len(vectors) if weights is None else weights
    output = process.next(
        state, [pack(v) for v in vectors], [np.float32(w) for w in weights]
    )
    return output.state, np.concatenate(output.result), output.measurements


def run(mechanism, vectors, weights=None):
    process = build(mechanism)
    return step(process, process.initialize(), vectors, weights)[1]


@pytest.fixture(scope="module")
def noiseless():
    return build(gaussian())


@pytest.fixture(scope="module")
def noiseless_in_process():
    return InProcess(gaussian())


@pytest.mark.parametrize("noise", [0.0, 0.7])
def test_both_engines_are_the_same(noise):
    """So what is tested on one holds on the other."""
    vectors, weights = [[3.0, 0, 0, 4.0, 0], [0.1, 0, np.nan, 0, 0]], [0.5, 2.0]
    mechanism = adaptive(noise_multiplier=noise)
    rounds = []
    for process in (build(mechanism), InProcess(mechanism)):
        state, found = process.initialize(), []
        for part in (2, 1, 0):
            state, mean, measured = step(process, state, vectors[:part], weights[:part])
            numbers = [mean, *tf.nest.flatten(measured)]
            found.append(np.concatenate([np.ravel(number) for number in numbers]))
        rounds.append(np.array(found))
    np.testing.assert_allclose(*rounds, rtol=1e-5, atol=1e-7)
    assert len(set(rounds[0][:, 0])) == 3


class TestSumByHand:
    def test_clips_weighs_sums_and_divides_by_the_fixed_denominator(self, noiseless):
        vectors = [
            [3.0, 0.0, 0.0, 4.0, 0.0],  # norm 5, across both tensors
            [0.1, 0.2, 0.0, 0.0, -0.2],  # norm 0.3, left alone
            [0.0, 0.0, -2.0, 0.0, 0.0],  # norm 2
        ]
        weights = [1.0, 0.5, 0.25]
        _, found, measured = step(noiseless, noiseless.initialize(), vectors, weights)
        expected = (
            np.array([0.6, 0, 0, 0.8, 0])
            + 0.5 * np.array([0.1, 0.2, 0, 0, -0.2])
            + 0.25 * np.array([0, 0, -1.0, 0, 0])
        ) / 4.0
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert measured == collections.OrderedDict(clip_norm=1.0, noise_stddev=0.0)

    @pytest.mark.parametrize(
        ("weight", "counted"),
        [(-3.0, 0.0), (np.nan, 0.0), (0.0, 0.0), (7.0, 1.0), (np.inf, 1.0)],
    )
    def test_weights_are_clamped(self, noiseless, weight, counted):
        vectors = [[0.5, 0, 0, 0, 0.5], [0.0, 0.25, 0, 0, 0]]
        found = step(noiseless, noiseless.initialize(), vectors, [weight, 1.0])[1]
        expected = np.array([0.5, 0, 0, 0, 0.5]) * counted + [0, 0.25, 0, 0, 0]
        np.testing.assert_allclose(found, expected / 4, rtol=1e-6)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_an_update_that_is_not_finite_contributes_nothing(self, noiseless, bad):
        vectors = [[0.5, 0, 0, bad, 0], [0.0, 0.25, 0, 0, 0]]
        found = step(noiseless, noiseless.initialize(), vectors)[1]
        np.testing.assert_allclose(found, [0, 0.0625, 0, 0, 0], rtol=1e-6)

    @pytest.mark.parametrize("size", [1e-42, 1e-20, 1e20, 3e38])
    def test_norms_neither_overflow_nor_vanish(self, noiseless, size):
        found = step(noiseless, noiseless.initialize(), [[size, 0, 0, size, 0]])[1]
        kept = min(size, 1 / np.sqrt(2)) / 4
        # Numbers below 1e-38 are denormal and may be flushed to zero.
        np.testing.assert_allclose(found, [kept, 0, 0, kept, 0], rtol=1e-5, atol=1e-38)

    def test_empty_cohort_is_zero_without_noise(self, noiseless):
        found = step(noiseless, noiseless.initialize(), [])[1]
        np.testing.assert_array_equal(found, 0)

    def test_any_sum_factory(self):
        inner = tff.aggregators.concat_factory(tff.aggregators.SumFactory())
        mechanism = gaussian(sum_factory=inner)
        found = run(mechanism, [[0.5, 0, 0, 0, 0], [0, 2.0, 0, 0, 0]])
        np.testing.assert_allclose(found, [0.125, 0.25, 0, 0, 0], atol=1e-6)


WILD = st.one_of(
    st.floats(-2, 2, width=32),
    st.sampled_from([0.0, np.nan, np.inf, -np.inf, 1e30, -3e38, 1e-40, 1e-30]),
)
CLIENT = st.tuples(st.lists(WILD, min_size=5, max_size=5), WILD)


class TestSensitivity:
    """Adding or removing one client moves the sum by at most the clip."""

    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(others=st.lists(CLIENT, max_size=4), one=CLIENT)
    def test_one_client_on_the_real_path(self, noiseless_in_process, others, one):
        noiseless = noiseless_in_process

        def total(clients):
            vectors, weights = [c[0] for c in clients], [c[1] for c in clients]
            return 4 * step(noiseless, noiseless.initialize(), vectors, weights)[1]

        moved = total([*others, one]).astype(np.float64) - total(others)
        assert np.linalg.norm(moved) <= 1.0 + 1e-6

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(others=st.lists(CLIENT, max_size=4), one=CLIENT)
    def test_both_releases_of_an_adaptive_clip(self, others, one):
        """Sum and count together, each over its noise, move by at most 1/z."""
        noisy = adaptive(noise_multiplier=0.9, clipped_count_stddev=0.5)
        count_stddev = noisy.adaptation.count_stddev
        assert count_stddev == 0.5
        value_noise = noisy.value_noise_multiplier

        def releases(clients):
            vectors, weights = [c[0] for c in clients], [c[1] for c in clients]
            state, mean, measured = step(
                self.adapting(), self.adapting().initialize(), vectors, weights
            )
            clip = measured["clip_norm"]
            after = step(self.adapting(), state, [])[2]["clip_norm"]
            # b̃ of the geometric update C exp(-0.2 (b̃ - 0.5)).
            share = 0.5 - np.log(after / clip) / 0.2
            return mean.astype(np.float64) * 10 / clip, (share - 0.5) * 10

        sums, counts = zip(releases([*others, one]), releases(others))
        moved_sum = np.linalg.norm(sums[0] - sums[1])
        moved_count = abs(counts[0] - counts[1])
        assert moved_sum <= 1 + 1e-6
        # Single precision of the clip's logarithm.
        assert moved_count <= 0.5 + 1e-4
        together = np.hypot(moved_sum / value_noise, moved_count / count_stddev)
        assert together <= 1 / 0.9 + 1e-3

    @staticmethod
    @functools.cache
    def adapting():
        """Without noise."""
        return InProcess(adaptive())

    def test_count_moves_by_at_most_a_half(self):
        # With the update 1, clip and count together have sensitivities 1 and 1/2,
        # which is what z_Δ and σ_b are combined for.
        below = [
            noised_sum.bounded_record(
                [tf.constant(vector)], tf.constant(1.0), tf.constant(1.0)
            )[1].numpy()
            <= 1.0
            for vector in ([0.5], [2.0], [np.nan], [np.inf])
        ]
        assert below == [True, False, False, False]


class TestBoundedWeights:
    """The estimators f_f and f_c of McMahan et al. 2018."""

    @pytest.fixture(scope="class")
    def clipped(self):
        return InProcess(bounded(clipped_denominator=True))

    def test_fixed_denominator_is_the_gaussian_mechanism(self):
        noisy = {"noise_multiplier": 0.7, "noise_seed": 3}
        vectors, weights = [[3.0, 0, 0, 4.0, 0], [0.1, 0, 0, 0, 0]], [0.5, 2.0]
        found = run(bounded(**noisy), vectors, weights)
        same = gaussian(expected_cohort_size=2.0, **noisy)
        np.testing.assert_array_equal(found, run(same, vectors, weights))

    @pytest.mark.parametrize(
        ("weights", "divisor"),
        [
            ([1.0, 1.0, 1.0], 3.0),
            ([0.5, 0.5, 0.25], 2.0),  # Fewer than the least.
            ([9.0, np.inf, 0.5], 2.5),  # Counted as 1 each.
            ([np.nan, -4.0, 1.0], 2.0),
        ],
    )
    def test_clipped_denominator_by_hand(self, clipped, weights, divisor):
        vectors = [[3.0, 0, 0, 4.0, 0], [0, 0.5, 0, 0, 0], [0, 0, -0.25, 0, 0]]
        found = step(clipped, clipped.initialize(), vectors, weights)[1]
        units = np.array([[0.6, 0, 0, 0.8, 0], vectors[1], vectors[2]])
        counted = np.clip(np.nan_to_num(weights, posinf=1.0), 0, 1)
        np.testing.assert_allclose(found, counted @ units / divisor, rtol=1e-6)

    def test_noise_of_the_clipped_denominator(self):
        mechanism = bounded(clipped_denominator=True, noise_multiplier=1.5)
        process = build(mechanism, TestNoise.BIG)
        output = process.next(process.initialize(), [], [])
        # 2 z S / (q W_min), whoever came: here nobody.
        noise = np.concatenate([np.ravel(part) for part in output.result])
        noise_checks.check_normal([noise], 1.5)
        assert output.measurements["noise_stddev"] == pytest.approx(1.5)

    @settings(
        max_examples=30,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(others=st.lists(CLIENT, max_size=4), one=CLIENT)
    def test_one_client_on_the_real_path(self, clipped, others, one):
        def average(clients):
            vectors, weights = [c[0] for c in clients], [c[1] for c in clients]
            return step(clipped, clipped.initialize(), vectors, weights)[1]

        moved = average([*others, one]).astype(np.float64) - average(others)
        assert np.linalg.norm(moved) <= 2 / 2.0 + 1e-6

    def test_twice_the_clip_is_needed(self, clipped):
        """S/(qW_min), as for a fixed denominator, would not be enough."""
        vectors = [[1.0, 0, 0, 0, 0]] * 2
        before = step(clipped, clipped.initialize(), vectors)[1]
        after = step(clipped, clipped.initialize(), [*vectors, [-1.0, 0, 0, 0, 0]])[1]
        # (1 + 1)/2 against (1 + 1 - 1)/3.
        assert np.abs(after - before).max() == pytest.approx(2 / 3)
        assert 2 / 3 > 1 / 2


class TestNoise:
    STDDEV = 1.5 * 2.0 / 4.0
    BIG = tff.StructWithPythonType(
        [
            (None, tff.TensorType(np.float32, [200, 100])),
            (None, tff.TensorType(np.float32, [20_000])),
        ],
        tuple,
    )

    @pytest.fixture(scope="class")
    def draws(self):
        """Noise of three rounds over an empty cohort: float64 `[3, 40000]`."""
        process = build(gaussian(l2_norm_clip=2.0, noise_multiplier=1.5), self.BIG)
        state, rounds = process.initialize(), []
        for _ in range(3):
            output = process.next(state, [], [])
            state = output.state
            rounds.append(np.concatenate([np.ravel(r) for r in output.result]))
        assert output.measurements["noise_stddev"] == pytest.approx(self.STDDEV)
        assert output.measurements["clip_norm"] == 2.0
        return np.array(rounds, np.float64)

    def test_rounds_tensors_and_coordinates_are_independent_normals(self, draws):
        # An empty cohort's; each half of a round is a tensor.
        noise_checks.check_normal(draws.reshape(6, -1), self.STDDEV)

    def test_noise_does_not_depend_on_the_cohort(self):
        process = build(gaussian(noise_multiplier=1.0))
        alone = step(process, process.initialize(), [])[1]
        vector = np.array([0.1, 0.2, 0.3, -0.4, 0.5])
        with_client = step(process, process.initialize(), [vector])[1]
        np.testing.assert_allclose(with_client - alone, vector / 4, atol=1e-6)

    def test_seed_decides_and_a_resumed_run_repeats_it(self):
        process = build(gaussian(noise_multiplier=1.0))
        states, results = [process.initialize()], []
        for _ in range(4):
            state, result, _ = step(process, states[-1], [[0.5, 0, 0, 0, 0]])
            states.append(state)
            results.append(result)
        again = build(gaussian(noise_multiplier=1.0))
        # From a checkpoint after two rounds, in a process that was built anew.
        state = states[2]
        for expected in results[2:]:
            state, result, _ = step(again, state, [[0.5, 0, 0, 0, 0]])
            np.testing.assert_array_equal(result, expected)
        assert len({tuple(result) for result in results}) == 4
        other = run(gaussian(noise_multiplier=1.0, noise_seed=2), [[0.5, 0, 0, 0, 0]])
        assert np.abs(other - results[0]).min() > 0

    def test_the_seed_is_in_the_state_and_nowhere_in_next(self):
        one, other = build(gaussian(noise_seed=1)), build(gaussian(noise_seed=2))
        assert one.next.type_signature == other.next.type_signature
        # `next` of one process continues the other's state with the other's noise.
        noisy = {"noise_multiplier": 1.0}
        one = build(gaussian(noise_seed=1, **noisy))
        other = build(gaussian(noise_seed=2, **noisy))
        swapped = step(one, other.initialize(), [])[1]
        np.testing.assert_array_equal(swapped, step(other, other.initialize(), [])[1])

    def test_all_128_bits_of_the_seed_count(self):
        seeds = [noised_sum.seed_tensor(5 + 2**bit).numpy() for bit in range(3, 128)]
        assert len({tuple(seed) for seed in seeds}) == 125

    def test_state_is_numeric(self):
        process = build(adaptive(noise_multiplier=0.5))
        leaves = tf.nest.flatten(process.initialize())
        assert {np.asarray(leaf).dtype.kind for leaf in leaves} <= set("if")

    def test_noise_is_the_same_under_xla(self):
        seed, like = noised_sum.seed_tensor(2**70 + 3), tf.zeros([1000])

        def draw():
            return noised_sum.noise(seed, tf.constant(5), 2, like)

        plain, compiled = tf.function(draw)(), tf.function(draw, jit_compile=True)()
        np.testing.assert_allclose(plain, compiled, rtol=2e-5, atol=2e-6)


class TestAdaptiveClip:
    def test_trajectory_by_hand(self):
        process = build(adaptive(clip_learning_rate=0.3, target_unclipped_quantile=0.4))
        state, clip = process.initialize(), 1.0
        generator = np.random.default_rng(1)
        for _ in range(6):
            vectors = generator.normal(0, 0.6, (8, 5))
            norms = np.linalg.norm(vectors.astype(np.float32), axis=1)
            state, found, measured = step(process, state, vectors)
            clipped = vectors * np.minimum(1, clip / norms)[:, np.newaxis]
            np.testing.assert_allclose(found, clipped.sum(0) / 10, rtol=1e-5, atol=1e-6)
            assert measured["clip_norm"] == pytest.approx(clip, rel=1e-5)
            # 8 clients came where 10 were expected: b̃ = Σ(b - 1/2)/10 + 1/2.
            share = np.sum(np.where(norms <= clip, 0.5, -0.5)) / 10 + 0.5
            clip *= np.exp(-0.3 * (share - 0.4))

    @pytest.mark.parametrize("quantile", [0.2, 0.5, 0.9])
    def test_converges_to_the_target_quantile(self, quantile):
        mechanism = adaptive(
            initial_l2_norm_clip=0.05,
            target_unclipped_quantile=quantile,
            clip_learning_rate=0.5,
            noise_multiplier=0.5,
            expected_cohort_size=40.0,
        )
        process = InProcess(mechanism)
        state, clips = process.initialize(), []
        generator = np.random.default_rng(2)
        directions = np.eye(5)
        for _ in range(70):
            norms = generator.uniform(0, 2, 40)
            vectors = norms[:, np.newaxis] * directions[generator.integers(0, 5, 40)]
            state, _, measured = step(process, state, vectors)
            clips.append(measured["clip_norm"])
        assert np.mean(clips[-25:]) == pytest.approx(2 * quantile, rel=0.15)

    def test_noise_is_split_so_that_both_releases_cost_z(self):
        # z_Δ = (z^-2 - (2σ_b)^-2)^(-1/2): 1.25 = (1 - 0.36)^(-1/2) for 2σ_b = 5/3.
        mechanism = adaptive(noise_multiplier=1.0, clipped_count_stddev=5 / 6)
        process = build(mechanism)
        measured = step(process, process.initialize(), [])[2]
        assert measured["noise_stddev"] == pytest.approx(1.25 / 10)
        total = (1.25**-2 + (2 * 5 / 6) ** -2) ** -0.5
        assert total == pytest.approx(1.0)

    def test_both_releases_have_independent_noise(self):
        """The sum's five coordinates and the count, over 200 empty rounds."""
        mechanism = adaptive(noise_multiplier=1.0, clipped_count_stddev=5 / 6)
        process = InProcess(mechanism)
        state, clips, values = process.initialize(), [], []
        for _ in range(201):
            state, found, measured = step(process, state, [])
            clips.append(measured["clip_norm"])
            # Relative to the clip of the round, over the declared 1.25/10.
            values.append(found / clips[-1] / 0.125)
        # b̃ of C exp(-0.2 (b̃ - 0.5)) is 0.5 and noise of 5/6 over 10.
        counts = -np.diff(np.log(clips)) / 0.2 / (5 / 6 / 10)
        noise_checks.check_normal(
            np.column_stack([values[:200], counts]).T, lags=(1, 2)
        )

    def test_empty_cohort_moves_the_clip_by_noise_only(self):
        process = build(adaptive())
        state, _, _ = step(process, process.initialize(), [])
        # Nobody was seen: b̃ = 1/2, which is the target.
        assert step(process, state, [])[2]["clip_norm"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("build_mechanism", "change", "message"),
    [
        (gaussian, {"l2_norm_clip": 0.0}, "l2 norm clip must be positive"),
        (gaussian, {"l2_norm_clip": np.nan}, "l2 norm clip must be positive"),
        (gaussian, {"noise_multiplier": -1.0}, "noise_multiplier must be at least 0"),
        (gaussian, {"expected_cohort_size": 0.0}, "expected_cohort_size must be"),
        (bounded, {"expected_cohort_weight": 0.0}, "expected_cohort_weight must be"),
        (bounded, {"expected_cohort_weight": np.nan}, "expected_cohort_weight must"),
        (bounded, {"l2_norm_clip": -1.0}, "l2 norm clip must be positive"),
        (adaptive, {"target_unclipped_quantile": 1.5}, "target_unclipped_quantile"),
        (adaptive, {"clip_learning_rate": -0.1}, "clip_learning_rate"),
        (adaptive, {"noise_multiplier": 1.0}, "a cohort above 10 clients"),
        (
            adaptive,
            {"noise_multiplier": 2.0, "clipped_count_stddev": 1.0},
            "expected a stddev above 1.0",
        ),
    ],
)
def test_bad_settings(build_mechanism, change, message):
    with pytest.raises(ValueError, match=message):
        build_mechanism(**change)


def test_only_float32_values():
    with pytest.raises(ValueError, match="float32"):
        build(gaussian(), tff.TensorType(np.int32, [3]))
