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
from tfl_research.algorithms.scaffold import ScaffoldClient
from tfl_research.clients.local_state import own_state
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


def trained(build, name, non_trainable, work=None):
    """The result of a client's work, without a process."""
    task = task_of(build, [name], non_trainable=non_trainable)
    model = task.functional_model()
    work = clients.LocalState.around(
        work or clients.local_training(optimizer=SGD), model
    )
    function = work.build(model, task.build_objective())
    steps = task.train.cohort([name], seed=3, round_number=1).batches(0)
    own = work.initial_client_state(model)
    if own is not None:
        steps["client_state"] = own
    steps = {key: tf.constant(value) for key, value in steps.items()}
    steps["model_state"] = tuple(tf.constant(s) for s in model.initial_state)
    start = [tf.constant(w) for w in model.initial_weights]
    return function, work, model, start, steps


def test_a_client_with_penalties_and_constraints_is_keras_fit():
    task = task_of(penalized, ["a"])
    weights, state, _ = run(task, process_of(task), rounds=2)
    expected, _ = fitted(penalized, "a", epochs=2)
    assert_close(weights, expected)
    assert state == []
    assert np.linalg.norm(weights[2], axis=0).max() <= 0.5 + 1e-6


class TestAveragedStatistics:
    def test_are_the_mean_over_clients_by_examples(self, averaged):
        task, process = averaged
        _, state, _ = run(task, process)
        a, b = fitted(normalized, "a")[1], fitted(normalized, "b")[1]
        assert_close(state, [(7 * s + 10 * t) / 17 for s, t in zip(a, b)])

    def test_every_compiler_agrees_with_tff(self, averaged):
        task, process = averaged
        ours = run(task, process, 2, Mode("folded", "xla"))
        theirs = runtime.tff_local(process)
        state = theirs.initialize()
        for number in (1, 2):
            state, _ = theirs.next(state, cohort_of(task, process, number))
        assert_close(ours[0], state.global_model_weights.trainable)
        assert_close(ours[1], state.global_model_weights.non_trainable)

    def test_count_as_bytes(self, averaged):
        process = averaged[1]
        # Kernels and biases of 28 and 10, gamma and beta, and two statistics of 4.
        assert process.upload_bytes == process.download_bytes == 4 * (38 + 8 + 8)


class TestLocalStatistics:
    def test_stay_at_the_client(self):
        task = task_of(normalized, non_trainable="local")
        process = process_of(task)
        _weights, state, metrics = run(task, process)
        assert_close(state, task.functional_model().initial_state)
        rows = np.asarray(metrics["client_states"])
        for row, name in zip(rows, ("a", "b")):
            own = own_state(task.functional_model(), row, state)
            assert_close(own, fitted(normalized, name)[1])
        # Only weights are sent, in both directions.
        assert process.upload_bytes == process.download_bytes == 4 * (38 + 8)

    def test_stand_after_the_state_of_the_algorithm_and_continue(self):
        work = ScaffoldClient(clients.LocalSteps(SGD))
        function, work, model, start, steps = trained(normalized, "a", "local", work)
        zeros = [tf.zeros_like(w) for w in start]
        first = function(start, steps, tf.constant(0), zeros)
        # SCAFFOLD's first round takes the steps of FedAvg.
        expected = fitted(normalized, "a")[1]
        assert_close([first.client_state[-8:]], [np.concatenate(expected)])
        steps["client_state"] = first.client_state
        second = function(start, steps, tf.constant(1), zeros)
        # With a momentum of 1/2, statistics of the same batches come closer to them.
        moved = np.abs(second.client_state[-8:] - first.client_state[-8:])
        assert 0 < moved.max() < np.abs(first.client_state[-8:]).max()
        assert work.initial_client_state(model).shape == (38 + 8 + 8,)

    def test_personal_models_have_them(self):
        _, work, model, start, steps = trained(normalized, "a", "local")
        objective = tasks.objectives.multiclass()
        made = work.build_personal(model, objective)(start, steps, tf.constant(0))
        assert_close(made.weights, fitted(normalized, "a")[0])
        assert_close(made.model_state, fitted(normalized, "a")[1])


def test_frozen_statistics_never_change():
    def frozen():
        model = normalized()
        model.layers[1].trainable = False
        return model

    # A frozen layer has four weights that are fixed, and none of them changes.
    function, _, _, start, steps = trained(frozen, "a", None)
    result = function(start, steps, tf.constant(0))
    expected = fitted(frozen, "a")
    assert_close([w + u for w, u in zip(start, result.update)], expected[0])
    assert_close(result.model_state, expected[1])


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
        with pytest.raises(ValueError, match="IFCA cannot train a model"):
            algorithms.build_ifca(steps, [first, first]).build(task, max_cohort_size=2)
        stale = algorithms.build_fed_buff(clients.LocalTraining(steps))
        with pytest.raises(ValueError, match="FedBuff cannot train a model"):
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
