"""DP-SGD as client work: steps by hand, sensitivity, padding, and the runtimes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from hypothesis import given, settings, strategies as st

from tfl_research import clients, data, models, processes, runtime, stateless_random
from tfl_research.clients.record_privacy import record_noise
from tfl_research.clients.record_privacy.example_gradients import example_gradients
from tfl_research.data.poisson_batching import ROW_ENDS_MICROBATCH, ROW_ENDS_STEP
from tfl_research.runtime import Mode
from tfl_research.tasks import objectives

FEATURES = 3
NOISE_SEED = np.array([123456789, -987654321], np.int64)
CLIP = 0.4
SPECS = (tf.TensorSpec([FEATURES, 1], tf.float32), tf.TensorSpec([1], tf.float32))


def batching_of(microbatch_size=1, steps=3):
    """Six expected records in a step; every step of the tests has such rows."""
    return data.PoissonBatching(
        steps, 6.0, microbatch_size, batch_size=6 if microbatch_size == 1 else 3
    )


def logistic_model(weight=(0.3, -0.2, 0.1), bias=0.05):
    def forward(weights, state, x, training, seed):
        del training, seed
        logits = tf.matmul(x, weights[0]) + weights[1]
        return models.Forward(logits, tf.constant(0.0), tuple(state))

    initial = np.array(weight, np.float32)[:, None], np.array([bias], np.float32)
    return models.FunctionalModel(initial, forward, is_random=False)


def work_of(batching, optimizer=None, **changes):
    arguments = {"l2_norm_clip": CLIP, "noise_multiplier": 0.0, **changes}
    return clients.record_level_training(
        optimizer=optimizer or tff.learning.optimizers.build_sgdm(0.5),
        batching=batching,
        **arguments,
    )


def function_of(batching, *args, **kwargs):
    """The client function, traced once for any number of rows."""
    build = work_of(batching, *args, **kwargs).build
    function = build(logistic_model(), objectives.binary())
    width = batching.batch_size
    signature = {
        "x": tf.TensorSpec([None, width, FEATURES], tf.float32),
        "y": tf.TensorSpec([None, width], tf.int32),
        "mask": tf.TensorSpec([None, width], tf.bool),
        "num_steps": tf.TensorSpec([], tf.int32),
        "num_examples": tf.TensorSpec([], tf.int32),
        "seed": tf.TensorSpec([2], tf.int32),
        "row_ends": tf.TensorSpec([None], tf.int32),
        "noise_seed": tf.TensorSpec([2], tf.int64),
    }
    once = tf.function(
        lambda weights, batches, number: function(weights, batches, number),
        input_signature=[list(SPECS), signature, tf.TensorSpec([], tf.int32)],
    )
    return lambda batches, number=0: once(
        [tf.constant(w) for w in logistic_model().initial_weights],
        batches,
        tf.constant(number),
    )


@pytest.fixture(scope="module")
def quiet():
    return function_of(batching_of())


@pytest.fixture(scope="module")
def noised():
    momentum = tff.learning.optimizers.build_sgdm(0.5, momentum=0.9)
    return function_of(batching_of(), momentum, noise_multiplier=1.3)


@pytest.fixture(scope="module")
def by_microbatch():
    return function_of(batching_of(3))


@pytest.fixture(scope="module")
def adam():
    """Noised, with Adam, a learning rate that halves after a round, and metrics."""
    return function_of(
        batching_of(),
        tff.learning.optimizers.build_adam(0.1),
        noise_multiplier=1.0,
        learning_rate_schedule=lambda r: 0.1 / (1.0 + tf.cast(r, tf.float32)),
        report_metrics=True,
    )


def steps(x, y, mask, ends, held):
    """Local steps by hand: x [rows, batch, features], ends [rows]."""
    return {
        "x": tf.constant(np.asarray(x, np.float32)),
        "y": tf.constant(np.asarray(y, np.int32)),
        "mask": tf.constant(np.asarray(mask, bool)),
        "num_steps": tf.constant(len(ends)),
        "num_examples": tf.constant(held),
        "seed": tf.constant([5, 6]),
        "row_ends": tf.constant(np.asarray(ends, np.int32)),
        "noise_seed": tf.constant(NOISE_SEED),
    }


def drawn_steps(batching, held=30, seed=0):
    """Local steps that were drawn, and the same as lists of (x, y) for each step."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(held, FEATURES)).astype(np.float32)
    y = rng.integers(0, 2, held).astype(np.int32)
    one = data.ClientData.from_arrays({"a": {"x": x, "y": y}}, batching)
    cohort = one.cohort(["a"], seed=seed, round_number=1)
    batches = {k: tf.constant(v) for k, v in cohort.batches(0).items()}
    return batches, x, y, cohort


def start_of(model):
    return [tf.constant(w) for w in model.initial_weights]


def gradients_of(weight, bias, x, y):
    """Each example's gradient of the logistic loss, [n, features + 1]."""
    p = 1 / (1 + np.exp(-(x @ weight + bias)))
    return (p - y)[:, None] * np.concatenate([x, np.ones((len(x), 1))], axis=1)


def clipped(gradients, clip):
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    return gradients / np.maximum(1.0, norms / clip)


def noise_of(seed, step):
    """The flat noise of a step: weights and bias."""
    parts = record_noise.step_noise(tf.constant(seed), tf.constant(step), SPECS)
    return np.concatenate([np.ravel(p) for p in parts])


def vector(update):
    return np.concatenate([np.ravel(u) for u in update])


def rows_of_steps(cohort):
    """[[indices of each microbatch] of each step] of a cohort's only client."""
    found, microbatches, members = [], [], []
    for row, ends in zip(cohort.orders[0], cohort.poisson[0].ends):
        members += row[row >= 0].tolist()
        if ends:
            microbatches.append(members)
            members = []
        if ends == ROW_ENDS_STEP:
            found.append(microbatches)
            microbatches = []
    return found


def run_by_hand(cohort, x, y, divisor, *, clip=CLIP, z=0.0, momentum=0.0, means=False):
    """Algorithm 1 in NumPy, float64, learning rate 0.5: the model delta [4]."""
    theta = vector(logistic_model().initial_weights).astype(float)
    first, velocity = theta.copy(), np.zeros(FEATURES + 1)
    for step, groups in enumerate(rows_of_steps(cohort)):
        total = np.zeros(FEATURES + 1)
        for members in groups:
            g = gradients_of(theta[:-1], theta[-1], x[members], y[members])
            if means and members:
                g = g.mean(axis=0, keepdims=True)
            total += clipped(g, clip).sum(axis=0)
        total += z * clip * noise_of(cohort.poisson[0].noise_seed, step)
        velocity = momentum * velocity + total / divisor
        theta -= 0.5 * velocity
    return theta - first


class TestAgainstNumPy:
    def test_two_steps_without_noise(self, quiet):
        batches, x, y, cohort = drawn_steps(batching_of(steps=2))
        assert len(cohort.orders[0]) > 2  # a step of several rows
        result = quiet(batches)
        expected = run_by_hand(cohort, x, y, 6.0)
        np.testing.assert_allclose(vector(result.update), expected, atol=1e-6)
        assert np.abs(expected).max() > 0.02
        assert float(result.num_examples) == 30

    def test_the_clip_bites_in_that_test(self):
        _, x, y, cohort = drawn_steps(batching_of(steps=2))
        free = run_by_hand(cohort, x, y, 6.0, clip=1e9)
        assert np.abs(run_by_hand(cohort, x, y, 6.0) - free).max() > 0.01

    def test_steps_with_noise(self, noised):
        batches, x, y, cohort = drawn_steps(batching_of(), seed=4)
        expected = run_by_hand(cohort, x, y, 6.0, z=1.3, momentum=0.9)
        np.testing.assert_allclose(
            vector(noised(batches, 7).update), expected, atol=1e-6
        )

    def test_microbatches(self, by_microbatch):
        batches, x, y, cohort = drawn_steps(batching_of(3, steps=4), seed=2)
        assert max(len(groups) for groups in rows_of_steps(cohort)) > 1
        expected = run_by_hand(cohort, x, y, 2.0, means=True)
        np.testing.assert_allclose(
            vector(by_microbatch(batches).update), expected, atol=1e-6
        )

    def test_a_client_with_fewer_records_than_a_batch_divides_by_them(self, quiet):
        batches, x, y, cohort = drawn_steps(batching_of(), held=5)
        expected = run_by_hand(cohort, x, y, 5.0)
        np.testing.assert_allclose(vector(quiet(batches).update), expected, atol=1e-6)

    @pytest.mark.parametrize("number", [0, 1])
    def test_any_optimizer_sees_the_noised_gradient(self, adam, number):
        """Adam, with the gradients by hand and TFF's optimizer applied to them."""
        batches, x, y, cohort = drawn_steps(batching_of(), seed=6)
        optimizer = tff.learning.optimizers.build_adam(0.1 / (1 + number))
        start = tuple(tf.constant(w) for w in logistic_model().initial_weights)
        weights, state = start, optimizer.initialize(SPECS)
        for step, (members,) in enumerate(rows_of_steps(cohort)):
            theta = vector(weights).astype(float)
            g = gradients_of(theta[:-1], theta[-1], x[members], y[members])
            total = clipped(g, CLIP).sum(axis=0)
            total = (total + CLIP * noise_of(cohort.poisson[0].noise_seed, step)) / 6
            gradient = (
                tf.constant(total[:-1, None].astype(np.float32)),
                tf.constant(total[-1:].astype(np.float32)),
            )
            state, weights = optimizer.next(state, weights, gradient)
        np.testing.assert_allclose(
            vector(adam(batches, number).update),
            vector(weights) - vector(start),
            atol=2e-5,
        )


def model_of_type(dtype):
    """The logistic model with weights of another type."""

    def forward(weights, state, x, training, seed):
        del training, seed
        logits = tf.matmul(tf.cast(x, dtype), weights[0]) + weights[1]
        return models.Forward(
            tf.cast(logits, tf.float32), tf.constant(0.0), tuple(state)
        )

    initial = [w.astype(dtype.as_numpy_dtype) for w in logistic_model().initial_weights]
    return models.FunctionalModel(tuple(initial), forward, is_random=False)


@pytest.mark.parametrize("microbatch_size", [1, 3])
def test_weights_of_double_precision(microbatch_size):
    """Of the type of the weights, and with the noise of float32 weights."""
    batching = batching_of(microbatch_size)
    batches, x, y, cohort = drawn_steps(batching, seed=4)
    model = model_of_type(tf.float64)
    work = work_of(batching, noise_multiplier=1.3)
    function = work.build(model, objectives.binary())
    result = function(start_of(model), batches, tf.constant(0))
    assert all(u.dtype == tf.float64 for u in result.update)
    expected = run_by_hand(
        cohort, x, y, 6.0 / microbatch_size, z=1.3, means=microbatch_size > 1
    )
    np.testing.assert_allclose(vector(result.update), expected, atol=1e-6)
    assert np.abs(expected).max() > 0.02


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_weights_of_half_precision_are_refused(dtype):
    with pytest.raises(ValueError, match=rf"{dtype.name} rounds above the clip"):
        work_of(batching_of()).build(model_of_type(dtype), objectives.binary())


SPECIAL = st.sampled_from([0.0, 1.0, -3.0, 1e-30, 1e20, -3e38, np.nan, np.inf])
RECORD = st.tuples(SPECIAL, SPECIAL, SPECIAL, st.integers(0, 1))


class TestSensitivity:
    """On what leaves the client: a step of SGD releases -rate · sum / divisor."""

    @staticmethod
    def released(function, records, present, rows):
        """The sum that a step releases, of the records that are present."""
        width = len(records) // rows
        x = np.array([r[:3] for r in records], np.float32).reshape(rows, width, 3)
        y = np.array([r[3] for r in records], np.int32).reshape(rows, width)
        mask = np.array(present, bool).reshape(rows, width)
        ends = [ROW_ENDS_MICROBATCH] * (rows - 1) + [ROW_ENDS_STEP]
        # As in a cohort, what is not drawn is not there.
        x = np.where(mask[..., None], x, 0)
        batches = steps(x, y, mask, ends, 6)
        return -vector(function(batches).update) / 0.5

    @settings(max_examples=60, deadline=None)
    @given(st.lists(RECORD, min_size=6, max_size=6), st.integers(0, 5))
    def test_one_record_moves_the_sum_by_the_clip_at_most(self, quiet, records, index):
        without = np.arange(6) != index
        both = [
            6.0 * self.released(quiet, records, present, 1)
            for present in (np.ones(6), without)
        ]
        assert np.isfinite(both).all()
        assert np.linalg.norm(both[0] - both[1]) <= 0.4 * (1 + 1e-5)
        assert np.linalg.norm(both[0]) <= 6 * 0.4 * (1 + 1e-5)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(RECORD, min_size=6, max_size=6), st.integers(0, 5))
    def test_with_microbatches_by_twice_the_clip_at_most(
        self, by_microbatch, records, index
    ):
        without = np.arange(6) != index
        both = [
            2.0 * self.released(by_microbatch, records, present, 2)
            for present in (np.ones(6), without)
        ]
        assert np.isfinite(both).all()
        assert np.linalg.norm(both[0] - both[1]) <= 2 * 0.4 * (1 + 1e-5)

    def test_with_microbatches_the_clip_alone_would_be_wrong(self, by_microbatch):
        """A large record turns its microbatch's mean around: almost two clips."""
        # The weights give both a logit of about 0.05, so that their gradients point
        # in opposite directions.
        small = (1.0, 2.0, 1.0, 0)
        records = [(1e3, 2e3, 1e3, 1), *[small] * 5]
        moved = [
            2.0 * self.released(by_microbatch, records, present, 2)
            for present in (np.ones(6), np.arange(6) != 0)
        ]
        assert np.linalg.norm(moved[0] - moved[1]) > 1.9 * 0.4

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_a_record_without_a_finite_gradient_counts_as_none(self, quiet, bad):
        records = [(1.0, 2.0, -1.0, 1), (0.5, 0.0, 1.0, 0)] * 3
        spoilt = [(bad, 1.0, 1.0, 1), *records[1:]]
        np.testing.assert_array_equal(
            self.released(quiet, spoilt, np.ones(6), 1),
            self.released(quiet, records, np.arange(6) != 0, 1),
        )


class TestPadding:
    """What is not a step adds no noise; a step that drew nobody does, and counts."""

    @staticmethod
    def empty(ends, width=6, held=8):
        lead = len(ends), width
        zeros = np.zeros((*lead, FEATURES)), np.zeros(lead)
        return steps(*zeros, np.zeros(lead), ends, held)

    def test_a_step_that_drew_nobody_is_its_noise(self, noised):
        update = noised(self.empty([ROW_ENDS_STEP])).update
        expected = -0.5 * 1.3 * CLIP * noise_of(NOISE_SEED, 0) / 6
        np.testing.assert_allclose(vector(update), expected, atol=1e-6)
        assert np.abs(expected).max() > 1e-3

    def test_two_of_them_draw_afresh(self, noised):
        update = noised(self.empty([ROW_ENDS_STEP] * 2)).update
        first, second = (1.3 * CLIP * noise_of(NOISE_SEED, s) / 6 for s in (0, 1))
        expected = -0.5 * (first + (second + 0.9 * first))
        np.testing.assert_allclose(vector(update), expected, atol=1e-6)

    def test_rows_of_padding_change_nothing(self, noised):
        """However many more of them the loop visits, as when clients share it."""
        one = noised(self.empty([ROW_ENDS_STEP]))
        more = noised(self.empty([ROW_ENDS_STEP, 0, 0, 0]))
        np.testing.assert_array_equal(vector(one.update), vector(more.update))

    def test_a_client_without_records_sends_zero(self, noised):
        result = noised(self.empty([0, 0, 0], held=0))
        assert not vector(result.update).any()
        assert float(result.num_examples) == 0

    def test_microbatches_that_are_empty_add_nothing(self, by_microbatch):
        update = by_microbatch(self.empty([ROW_ENDS_STEP], width=3)).update
        assert not vector(update).any()


class TestExampleGradients:
    def test_dropout_differs_between_examples_and_is_each_ones_own(self):
        def build():
            return tf.keras.Sequential(
                [
                    tf.keras.layers.InputLayer((4,)),
                    tf.keras.layers.Dense(8, activation="tanh"),
                    tf.keras.layers.Dropout(0.5),
                    tf.keras.layers.Dense(1),
                ]
            )

        model = models.from_keras(build, tf.TensorSpec((None, 4), tf.float32), seed=1)
        weights = start_of(model)
        x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
        x[1] = x[0]
        batch = {
            "x": tf.constant(x),
            "y": tf.constant([1, 1, 0]),
            "mask": tf.constant([True, True, True]),
        }
        seed = tf.constant([3, 4])
        gradients, _ = example_gradients(
            model, objectives.binary(), weights, batch, seed
        )
        for index in range(3):
            with tf.GradientTape() as tape:
                tape.watch(weights)
                own = stateless_random.fold_in(seed, index)
                logits = model.forward(
                    weights, (), batch["x"][index : index + 1], True, own
                ).predictions
                loss = objectives.binary().example_losses(
                    batch["y"][index : index + 1], logits
                )
            alone = tape.gradient(loss, weights)
            for ours, theirs in zip(gradients, alone):
                np.testing.assert_allclose(ours[index], theirs, atol=1e-6)
        assert np.abs(gradients[0][0] - gradients[0][1]).max() > 0


class TestMetrics:
    def test_leave_the_client_only_when_asked_for(self, quiet, adam):
        batches, _, _, cohort = drawn_steps(batching_of())
        withheld = quiet(batches).sums
        assert not np.concatenate([np.ravel(v) for v in withheld.values()]).any()
        told = adam(batches).sums
        assert float(told["examples"]) == (cohort.orders[0] >= 0).sum()
        assert float(told["loss"]) > 0


class TestRefusals:
    def test_other_local_steps(self):
        with pytest.raises(ValueError, match=r"expected a data\.PoissonBatching"):
            work_of(data.Batching(4))

    def test_data_without_poisson_sampling(self):
        batches, *_ = drawn_steps(batching_of())
        del batches["row_ends"]
        function = work_of(batching_of()).build(logistic_model(), objectives.binary())
        with pytest.raises(ValueError, match=r"with_batching\(data\.PoissonBatching"):
            function(start_of(logistic_model()), batches, tf.constant(0))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"l2_norm_clip": 0.0}, "l2_norm_clip must be above 0, got 0"),
            ({"l2_norm_clip": np.inf}, "l2_norm_clip must be above 0"),
            ({"noise_multiplier": -1.0}, "noise_multiplier must be at least 0, got -1"),
            ({"noise_multiplier": np.nan}, "noise_multiplier must be at least 0"),
        ],
    )
    def test_numbers_out_of_range(self, changes, message):
        with pytest.raises(ValueError, match=message):
            work_of(data.PoissonBatching(1, 4.0), **changes)


class TestRuntimes:
    """The same rounds on TFF's runtime and in process, folded and vectorised."""

    @pytest.fixture(scope="class")
    def task(self, make_linear_task):
        rng = np.random.default_rng(3)
        held = {
            name: (rng.normal(size=(n, 2)), rng.normal(size=n))
            for name, n in (("a", 40), ("b", 3), ("none", 0), ("c", 17))
        }
        return make_linear_task(held, data.PoissonBatching(3, 6.0))

    @pytest.fixture(scope="class")
    def process(self, task):
        return processes.build_fed_avg(
            task,
            client_work=work_of(
                task.train.batching, noise_multiplier=0.8, report_metrics=True
            ),
        )

    @staticmethod
    def rounds(engine, task, count=3):
        with engine:
            state = engine.initialize()
            for number in range(1, count + 1):
                cohort = task.train.cohort(
                    task.train.client_ids, seed=2**200 + 1, round_number=number
                )
                state, metrics = engine.next(state, cohort)
        weights = state.global_model_weights.trainable
        return vector(weights), metrics

    @pytest.fixture(scope="class")
    def reference(self, process, task):
        return self.rounds(runtime.tff_local(process), task)

    @pytest.mark.parametrize(
        "mode",
        [
            Mode("folded", "xla"),
            Mode("folded", "graph"),
            pytest.param(Mode("vectorised", "graph"), marks=pytest.mark.slow),
        ],
        ids=str,
    )
    def test_agree(self, process, task, reference, mode):
        found, metrics = self.rounds(runtime.in_process(process, mode=mode), task)
        np.testing.assert_allclose(found, reference[0], atol=1e-5)
        assert float(metrics["cohort"]["examples"]) == 60
        for name, value in metrics["train"].items():
            np.testing.assert_allclose(value, reference[1]["train"][name], rtol=1e-4)

    def test_the_noise_is_there(self, task, reference):
        batching = task.train.batching
        quiet = processes.build_fed_avg(task, client_work=work_of(batching))
        engine = runtime.in_process(quiet, mode=Mode("folded", "graph"))
        assert np.abs(self.rounds(engine, task)[0] - reference[0]).max() > 0.01

    def test_processes_of_other_noise_share_their_programs(self, task, process):
        """Neither clip nor noise, nor any secret, is baked into a program."""
        work = work_of(task.train.batching, noise_multiplier=0.3, report_metrics=True)
        other = processes.build_fed_avg(task, client_work=work)
        prints = [
            runtime.in_process(p)._programs.work.fingerprint for p in (process, other)
        ]
        assert prints[0] == prints[1]
