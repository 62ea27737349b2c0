"""Clients each of which is a program of its own, as at the sites of a federation."""

import collections
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import algorithms, clients, data, processes, runtime, tasks
from tfl_research.runtime.rounds.separate import SeparateProcess


def build_model():
    layers = [tf.keras.layers.Input([3]), tf.keras.layers.Dense(2)]
    return tf.keras.Sequential(layers)


@pytest.fixture(scope="module")
def task():
    generator = np.random.default_rng(0)
    held = {}
    for name, size in (("a", 5), ("b", 9), ("c", 2)):
        x = generator.normal(size=(size, 3)).astype(np.float32)
        held[name] = {"x": x, "y": (x[:, 0] > 0).astype(np.int32)}
    return tasks.from_arrays(
        held, model=build_model, test=0.0, batching=data.Batching(batch_size=2)
    )


@pytest.fixture(scope="module")
def process(task):
    sgd = tff.learning.optimizers.build_sgdm(0.1)
    return processes.build_fed_avg(
        task, client_work=clients.local_training(optimizer=sgd)
    )


def trained(engine, task, rounds=3):
    state = engine.initialize()
    for number in range(1, rounds + 1):
        cohort = task.train.cohort(["b", "a", "c"], seed=0, round_number=number)
        state, metrics = engine.next(state, cohort)
    return state, metrics


@pytest.mark.parametrize("compiler", ["graph", "xla"])
def test_is_another_mode_to_rounding(task, process, compiler):
    own = runtime.in_process(process, mode=runtime.Mode("separate", compiler))
    other = runtime.in_process(process, mode=runtime.Mode("folded", compiler))
    (one, metrics), (two, expected) = trained(own, task), trained(other, task)
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(two)):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    assert int(metrics["cohort"]["clients"]) == int(expected["cohort"]["clients"]) == 3


def test_the_number_of_threads_changes_no_bit(task, process):
    mode = runtime.Mode("separate", "xla")
    states = [
        trained(runtime.in_process(process, mode=mode, parallel=threads), task)[0]
        for threads in (1, 2)
    ]
    for a, b in zip(*map(tf.nest.flatten, states)):
        np.testing.assert_array_equal(a, b)


def test_its_steps_done_apart_are_a_round_to_the_last_bit(task, process):
    """As the coordinator and the sites of a federation execute a round."""
    engine = runtime.in_process(process, mode=runtime.Mode("separate", "xla"))
    state = engine.initialize()
    cohort = task.train.cohort(["c", "a"], seed=0, round_number=1)
    expected, _ = engine.next(state, cohort)
    coordinator, site = (SeparateProcess(process, "xla") for _ in range(2))
    leaves = coordinator.state_leaves(state)
    context = coordinator.clients.context(leaves)
    reports = []
    for name in ("c", "a"):
        own = task.train.cohort([name], seed=0, round_number=1)
        reports.append(site.clients.report(context, site.clients.chunk(own, 0)))
    for report in reports:
        for value, (dtype, shape) in zip(report, coordinator.report_layout):
            assert value.dtype.as_numpy_dtype == dtype
            assert tuple(value.shape) == shape
    total = coordinator.clients.total(reports)
    found, _ = coordinator.packed(coordinator.clients.result(leaves, total))
    for a, b in zip(tf.nest.flatten(found), tf.nest.flatten(expected)):
        np.testing.assert_array_equal(a, b)


def test_an_empty_cohort_changes_nothing(task, process):
    engine = runtime.in_process(process, mode=runtime.Mode("separate", "graph"))
    state = engine.initialize()
    cohort = task.train.cohort([], seed=0, round_number=1)
    after, metrics = engine.next(state, cohort)
    weights = state.global_model_weights.trainable
    for a, b in zip(weights, after.global_model_weights.trainable):
        np.testing.assert_array_equal(a, b)
    assert int(metrics["cohort"]["clients"]) == 0


def test_clients_with_datasets_are_refused():
    @tff.tensorflow.computation
    def zero():
        return tf.constant(0)

    @tff.tensorflow.computation(tff.SequenceType(np.int32))
    def work(dataset):
        return dataset.reduce(0, lambda total, value: total + value)

    @tff.federated_computation
    def initialize():
        return tff.federated_eval(zero, tff.SERVER)

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(tff.SequenceType(np.int32), tff.CLIENTS),
    )
    def next_round(state, values):
        return state, tff.federated_sum(tff.federated_map(work, values))

    process = tff.templates.IterativeProcess(initialize, next_round)
    with pytest.raises(runtime.UnsupportedProcess, match="its clients hold datasets"):
        runtime.in_process(process, mode=runtime.Mode("separate", "graph"))


class NotNegative(tf.keras.layers.Layer):
    """An assertion, so that a client's computation has an effect."""

    def call(self, inputs):
        sizes = tf.reduce_sum(tf.abs(inputs), axis=-1)
        with tf.control_dependencies([tf.debugging.assert_non_negative(sizes)]):
            return tf.identity(inputs)


class Product(tf.keras.layers.Layer):
    """An Einstein sum, which programs have in another form."""

    def call(self, inputs):
        return tf.einsum("ab,bc->ac", inputs, tf.eye(3))


@pytest.mark.parametrize("layer", [None, NotNegative, Product])
def test_what_stays_with_a_client_is_known(task, layer):
    """Its new state, and its position, are not sent to the server."""

    def build():
        own = [] if layer is None else [layer()]
        layers = [tf.keras.layers.Input([3]), *own, tf.keras.layers.Dense(2)]
        return tf.keras.Sequential(layers)

    steps = clients.LocalSteps(tff.learning.optimizers.build_sgdm(0.1))
    process = algorithms.build_scaffold(steps, population=3).build(
        dataclasses.replace(task, build_model=build), max_cohort_size=3
    )
    separate = SeparateProcess(process)
    state, position = separate.kept_positions("position")
    # The change of a client's control variate has the size of the model's 8 weights.
    assert separate.report_layout[state] == (np.float32, (8,))
    assert separate.report_layout[position] == (np.int32, ())


def test_a_process_without_states_keeps_nothing(process):
    assert SeparateProcess(process).kept_positions("position") == []


def test_a_position_that_is_not_reported_is_refused():
    client_type = collections.OrderedDict(x=np.float32, position=np.int32)

    @tff.tensorflow.computation(client_type)
    def work(client):
        return client["x"], client["position"] + 1

    @tff.federated_computation
    def initialize():
        return tff.federated_value(0, tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType(np.int32, tff.SERVER),
        tff.FederatedType(tff.to_type(client_type), tff.CLIENTS),
    )
    def next_round(state, values):
        return state, tff.federated_sum(tff.federated_map(work, values))

    process = tff.templates.IterativeProcess(initialize, next_round)
    with pytest.raises(ValueError, match="position is none of the tensors"):
        SeparateProcess(process).kept_positions("position")
