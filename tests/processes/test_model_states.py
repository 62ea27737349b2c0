"""Rounds of models with penalties, constraints and statistics."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import (
    algorithms,
    clients,
    data,
    processes,
    runtime,
    tasks,
)
from tfl_research.runtime import Mode

L = tf.keras.layers
RATE = 0.1
SGD = tff.learning.optimizers.build_sgdm(RATE)
_RNG = np.random.default_rng(0)
# The last minibatch of a client is shorter than the others.
EXAMPLES = collections.OrderedDict(
    (
        name,
        {
            "x": _RNG.normal(1.0, 2.0, size=(size, 6)).astype(np.float32),
            "y": _RNG.integers(0, 2, size).astype(np.int32),
        },
    )
    for name, size in (("a", 7), ("b", 10))
)


def penalized():
    return tf.keras.Sequential(
        [
            L.Input([6]),
            L.Dense(
                4,
                kernel_initializer=tf.keras.initializers.RandomNormal(seed=1),
                kernel_regularizer=tf.keras.regularizers.L2(0.1),
                activity_regularizer=tf.keras.regularizers.L2(0.1),
                bias_constraint="non_neg",
            ),
            L.Dense(
                2,
                kernel_constraint=tf.keras.constraints.MaxNorm(0.5),
                kernel_initializer=tf.keras.initializers.RandomNormal(seed=2),
            ),
        ]
    )


def normalized():
    return tf.keras.Sequential(
        [
            L.Input([6]),
            L.Dense(4, kernel_initializer=tf.keras.initializers.RandomNormal(seed=1)),
            L.BatchNormalization(momentum=0.5),
            L.Dense(2, kernel_initializer=tf.keras.initializers.RandomNormal(seed=2)),
        ]
    )


def task_of(build, names=("a", "b"), **options):
    examples = {name: EXAMPLES[name] for name in names}
    batching = data.Batching(batch_size=4, shuffle=False)
    train = data.ClientData.from_arrays(examples, batching=batching)
    card = tasks.Card("t", "client", "target", "own", "private")
    objective = tasks.objectives.multiclass
    return tasks.Task("t", card, train, train, None, build, objective, **options)


def process_of(task, work=None, **options):
    work = work or clients.local_training(optimizer=SGD)
    return processes.build_fed_avg(task, client_work=work, max_cohort_size=2, **options)


def cohort_of(task, process, round_number, states=None):
    ids = list(task.train.client_ids)
    cohort = task.train.cohort(ids, seed=3, round_number=round_number)
    if process.client_states is None:
        return cohort
    if states is None:
        states = np.stack([process.client_states.initial] * len(ids))
    positions = np.arange(len(ids), dtype=np.int32)
    return cohort.with_members(client_state=states, position=positions)


def run(task, process, rounds=1, mode=None):
    engine = runtime.in_process(process, mode=mode or Mode("folded", "graph"))
    state, states = engine.initialize(), None
    for number in range(1, rounds + 1):
        cohort = cohort_of(task, process, number, states)
        state, metrics = engine.next(state, cohort)
        if process.client_states is not None:
            states = np.asarray(metrics["client_states"])
    weights = state.global_model_weights
    return (
        [np.asarray(w) for w in weights.trainable],
        [np.asarray(w) for w in weights.non_trainable],
        metrics,
    )


def fitted(build, name, epochs=1):
    """Keras' own training on a client's examples, in their order."""
    model = build()
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf.keras.optimizers.SGD(RATE), loss)
    client = EXAMPLES[name]
    model.fit(client["x"], client["y"], 4, epochs=epochs, shuffle=False, verbose=0)
    trained = [w.numpy() for w in model.trainable_weights]
    return trained, [w.numpy() for w in model.non_trainable_weights]


def assert_close(ours, expected):
    assert len(ours) == len(expected)
    for a, b in zip(ours, expected):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def averaged():
    task = task_of(normalized, non_trainable="averaged")
    return task, process_of(task)


class TestOneClientIsKerasFit:
    def test_penalties_and_constraints(self):
        task = task_of(penalized, ["a"])
        weights, state, _ = run(task, process_of(task), rounds=2)
        expected, _ = fitted(penalized, "a", epochs=2)
        assert_close(weights, expected)
        assert state == []
        assert np.linalg.norm(weights[2], axis=0).max() <= 0.5 + 1e-6

    def test_running_statistics(self):
        task = task_of(normalized, ["a"], non_trainable="averaged")
        weights, state, _ = run(task, process_of(task), rounds=2)
        expected = fitted(normalized, "a", epochs=2)
        assert_close(weights, expected[0])
        assert_close(state, expected[1])


class TestAveragedStatistics:
    def test_are_the_mean_over_clients_by_examples(self, averaged):
        task, process = averaged
        _, state, _ = run(task, process)
        a, b = fitted(normalized, "a")[1], fitted(normalized, "b")[1]
        assert_close(state, [(7 * s + 10 * t) / 17 for s, t in zip(a, b)])

    @pytest.mark.parametrize("compiler", ["graph", "xla"])
    def test_every_compiler_agrees_with_tff(self, averaged, compiler):
        task, process = averaged
        ours = run(task, process, 2, Mode("folded", compiler))
        theirs = runtime.tff_local(process)
        state = theirs.initialize()
        for number in (1, 2):
            state, _ = theirs.next(state, cohort_of(task, process, number))
        assert_close(ours[0], state.global_model_weights.trainable)
        assert_close(ours[1], state.global_model_weights.non_trainable)

    def test_count_as_bytes(self, averaged):
        process, plain = averaged[1], process_of(task_of(penalized))
        # gamma, beta; and two vectors of four statistics.
        assert process.upload_bytes == plain.upload_bytes + 4 * (8 + 8)
        assert process.download_bytes == plain.download_bytes + 4 * (8 + 8)

    def test_every_aggregator_gets_them(self):
        task = task_of(normalized, non_trainable="averaged")
        process = process_of(task, aggregator=tff.aggregators.UnweightedMeanFactory())
        a, b = fitted(normalized, "a")[1], fitted(normalized, "b")[1]
        assert_close(run(task, process)[1], [(s + t) / 2 for s, t in zip(a, b)])


class TestLocalStatistics:
    def test_stay_at_the_client_and_continue_there(self):
        task = task_of(normalized, non_trainable="local")
        process = process_of(task)
        weights, state, metrics = run(task, process)
        assert_close(state, task.functional_model().initial_state)
        rows = np.asarray(metrics["client_states"])
        for row, name in zip(rows, ("a", "b")):
            own = process.client_states.model_state(row, state)
            assert_close(own, fitted(normalized, name)[1])
        # Only weights are sent, in both directions.
        sent = sum(w.nbytes for w in weights)
        assert (process.upload_bytes, process.download_bytes) == (sent, sent)
        _, _, later = run(task, process, rounds=2)
        assert np.abs(np.asarray(later["client_states"]) - rows).max() > 1e-3

    def test_stand_after_the_state_of_the_algorithm(self):
        steps = clients.LocalSteps(SGD)
        task = task_of(normalized, non_trainable="local")
        algorithm = algorithms.build_scaffold(steps, population=2)
        process = algorithm.build(task, max_cohort_size=2)
        model = task.functional_model()
        size = sum(w.size for w in model.initial_weights)
        assert process.client_states.initial.shape == (size + 8,)
        _, state, metrics = run(task, process)
        row = np.asarray(metrics["client_states"])[0]
        own = process.client_states.model_state(row, state)
        # SCAFFOLD's first round takes the steps of FedAvg.
        assert_close(own, fitted(normalized, "a")[1])

    def test_personal_models_have_them(self):
        task = task_of(normalized, non_trainable="local")
        process, model = process_of(task), task.functional_model()
        work = clients.LocalState.around(clients.local_training(optimizer=SGD), model)
        personal = work.build_personal(model, task.build_objective())
        steps = cohort_of(task, process, 1).batches(0)
        steps["client_state"] = process.client_states.initial
        steps = {name: tf.constant(value) for name, value in steps.items()}
        start = [tf.constant(w) for w in model.initial_weights]
        made = personal(start, steps, tf.constant(0))
        assert_close(made.weights, fitted(normalized, "a")[0])
        assert_close(made.model_state, fitted(normalized, "a")[1])


class TestFrozenStatistics:
    def test_never_change_and_are_not_sent_back(self):
        task = task_of(normalized, non_trainable="frozen")
        process = process_of(task)
        _, state, _ = run(task, process, rounds=2)
        assert_close(state, task.functional_model().initial_state)
        assert process.download_bytes == process.upload_bytes + 4 * 8

    def test_are_those_of_a_frozen_layer(self):
        def frozen():
            model = normalized()
            model.layers[1].trainable = False
            # gamma and beta are 1 and 0, so that only their training differs.
            return model

        weights, state, _ = run(
            task_of(frozen, ["a"]), process_of(task_of(frozen, ["a"]))
        )
        expected = fitted(frozen, "a")
        assert_close(weights, expected[0])
        assert_close(state, expected[1])


class TestRefusals:
    def test_without_a_choice(self):
        with pytest.raises(ValueError, match=r"moving_mean.*non_trainable='frozen'"):
            process_of(task_of(normalized))

    def test_unknown_choice(self):
        with pytest.raises(ValueError, match="one of frozen, averaged, local, got 'x'"):
            process_of(task_of(normalized, non_trainable="x"))

    def test_algorithms_with_several_models(self):
        task = task_of(normalized, non_trainable="averaged")
        steps = clients.LocalSteps(SGD)
        first = task.functional_model().initial_weights
        with pytest.raises(ValueError, match="IFCA takes no model"):
            algorithms.build_ifca(steps, [first, first]).build(task, max_cohort_size=2)
        stale = algorithms.build_fed_buff(clients.LocalTraining(steps))
        with pytest.raises(ValueError, match="FedBuff takes no model"):
            stale.build(task, max_cohort_size=2)

    def test_record_level_privacy(self):
        task = task_of(normalized, non_trainable="averaged")
        work = clients.record_level_training(
            optimizer=SGD,
            batching=data.PoissonBatching(steps=2, expected_batch_size=2),
            l2_norm_clip=1.0,
            noise_multiplier=1.0,
        )
        with pytest.raises(ValueError, match=r"record-level privacy.*moving_mean"):
            work.build(task.functional_model(), task.build_objective())
