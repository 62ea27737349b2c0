"""Trains a row of the table of Keras models by the toolkit's client work."""

from __future__ import annotations

import collections
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from keras_row import BATCH_SIZE, ROUNDS, Row, built, keras_fit

from tfl_research import clients, data, processes
from tfl_research.data.cohort import ArraySpec
from tfl_research.tasks import objectives
from tfl_research.tasks.task import Card, Task


class Trained(NamedTuple):
    """Weights before and after training, and predictions outside of training."""

    initial: list[np.ndarray]
    initial_state: list[np.ndarray]
    weights: list[np.ndarray]
    state: list[np.ndarray]
    predictions: Any


def task_of(row: Row, num_clients: int = 1) -> Task:
    """A task whose clients hold the row's examples, the first client all of them."""
    arrays = row.arrays()
    held = {
        f"c{number}": {name: array[number:] for name, array in arrays.items()}
        for number in range(num_clients)
    }
    specs = {name: ArraySpec(a.shape[1:], a.dtype) for name, a in arrays.items()}
    batching = data.Batching(batch_size=BATCH_SIZE, shuffle=False)
    split = data.ClientData(tuple(held), held.__getitem__, specs, batching)
    return Task(
        "row",
        Card("", "", "", "", ""),
        split,
        split,
        None,
        row.build,
        lambda: objective_of(row),
        non_trainable=row.non_trainable,
    )


def objective_of(row: Row) -> Any:
    """The row's Keras loss as an objective."""
    return objectives.from_keras(loss=row.loss())


def steps_of(row: Row) -> dict[str, Any]:
    """The local steps of a client with the row's examples, the last step padded."""
    arrays = row.arrays()
    count = len(next(iter(arrays.values())))
    steps = -(-count // BATCH_SIZE)
    padding = steps * BATCH_SIZE - count
    batches: dict[str, Any] = {}
    for name, array in arrays.items():
        nothing = "" if array.dtype == object else 0
        rest = np.full((padding, *array.shape[1:]), nothing, array.dtype)
        padded = np.concatenate([array, rest])
        batches[name] = _tensor(padded.reshape(steps, BATCH_SIZE, *array.shape[1:]))
    mask = np.arange(steps * BATCH_SIZE) < count
    batches["mask"] = tf.constant(mask.reshape(steps, BATCH_SIZE))
    batches["num_steps"] = tf.constant(steps)
    batches["num_examples"] = tf.constant(count)
    return batches


def _tensor(array: np.ndarray) -> tf.Tensor:
    return tf.constant(array.tolist() if array.dtype == object else array)


def trained(row: Row, seed: int = 5) -> Trained:
    """Three rounds of the toolkit's local training of one client."""
    task = task_of(row)
    model = task.functional_model(0)
    # Labels are checked here, as in every run.
    task.train.cohort(task.train.client_ids, seed=1, round_number=1)
    optimizer = tff.learning.optimizers.build_sgdm(row.rate)
    work = clients.local_training(optimizer=optimizer)
    train = work.build(model, objective_of(row))
    weights = [tf.constant(w) for w in model.initial_weights]
    state = tuple(tf.constant(s) for s in model.initial_state)
    batches = steps_of(row)
    for number in range(ROUNDS):
        batches["seed"] = tf.constant([seed, number])
        if state:
            batches["model_state"] = state
        result = train(weights, batches, tf.constant(number))
        weights = [w + u for w, u in zip(weights, result.update)]
        if state:
            state = tuple(result.model_state or ())
    x = tf.nest.map_structure(_tensor, row.x)
    return Trained(
        [np.asarray(w) for w in model.initial_weights],
        [np.asarray(s) for s in model.initial_state],
        [w.numpy() for w in weights],
        [s.numpy() for s in state],
        model.predict(weights, state, x),
    )


class Federated(NamedTuple):
    """The server's model after three rounds of two clients."""

    weights: list[np.ndarray]
    state: list[np.ndarray]


def _server_model(model_weights: Any) -> Federated:
    return Federated(
        [np.asarray(w) for w in model_weights.trainable],
        [np.asarray(s) for s in model_weights.non_trainable],
    )


def _batches(arrays: Any) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(arrays).batch(BATCH_SIZE)


def federated_process(row: Row) -> tuple[Any, list[Any]]:
    """Federated averaging over two clients of the row, and its cohorts."""
    task = task_of(row, 2)
    optimizer = tff.learning.optimizers.build_sgdm(row.rate)
    process = processes.build_fed_avg(task, client_optimizer=optimizer)
    cohorts = [
        task.train.cohort(task.train.client_ids, seed=1, round_number=number)
        for number in range(1, ROUNDS + 1)
    ]
    return process, cohorts


def on_engine(engine: Any, cohorts: list[Any]) -> Federated:
    """Three rounds on an engine."""
    with engine:
        state = engine.initialize()
        for cohort in cohorts:
            state, _ = engine.next(state, cohort)
    return _server_model(state.global_model_weights)


def by_keras(row: Row) -> Federated:
    """The same rounds by Keras' `fit` and means in NumPy, by the clients' examples."""
    model = task_of(row).functional_model(0)
    weights, state = list(model.initial_weights), list(model.initial_state)
    parts = [row, row.without_first()]
    counts = [float(part.count()) for part in parts]
    variables = built(row).trainable_variables
    for _ in range(ROUNDS):
        fitted = [keras_fit(part, weights, state, epochs=1) for part in parts]
        # The step of the server's optimizer is followed by the constraints too.
        means = _means([one[0] for one in fitted], counts)
        weights = [
            (v.constraint or tf.identity)(tf.constant(mean, v.dtype)).numpy()
            for v, mean in zip(variables, means)
        ]
        if row.non_trainable == "averaged":
            state = _means([one[1] for one in fitted], counts)
    return Federated(weights, state)


def _means(values: list[list[np.ndarray]], counts: list[float]) -> list[np.ndarray]:
    return [np.average(column, axis=0, weights=counts) for column in zip(*values)]


def by_tff(row: Row) -> list[np.ndarray]:
    """Trainable weights after the same rounds of TFF's own federated averaging.

    Called within an execution context. TFF leaves other weights as they are.
    """
    parts = [row, row.without_first()]
    values = [_batches(collections.OrderedDict(x=p.x, y=p.y)) for p in parts]

    def model_fn() -> Any:
        return tff.learning.models.from_keras_model(
            built(row), loss=row.loss(), input_spec=values[0].element_spec
        )

    process = tff.learning.algorithms.build_weighted_fed_avg(
        model_fn, tff.learning.optimizers.build_sgdm(row.rate)
    )
    model = task_of(row).functional_model(0)
    given = tff.learning.models.ModelWeights(
        list(model.initial_weights), list(model.initial_state)
    )
    state = process.set_model_weights(process.initialize(), given)
    for _ in range(ROUNDS):
        state = process.next(state, values).state
    return [np.asarray(w) for w in process.get_model_weights(state).trainable]
