"""Processes and computations written for the test: what TFF allows a user to write."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tff_row import Row, dataset

NUMBER = tff.TensorType(np.float32)
COUNT = tff.TensorType(np.int32)
OrderedDict = collections.OrderedDict
NUMBERS = [[np.float32(v) for v in vs] for vs in ([1.0, 2.5], [3.0], [0.5, -1.0, 2.0])]
SETS = [
    [dataset(1.0, 2.0, 3.0, dtype=tf.float32), dataset(4.0, dtype=tf.float32)],
    [dataset(-1.0, 0.5, dtype=tf.float32)],
    [dataset(2.0, 2.0, dtype=tf.float32)] * 3,
]


def process(
    first: Any,
    client_type: Any,
    work: Any,
    server: Any,
    aggregate: Any = tff.federated_sum,
) -> tff.templates.IterativeProcess:
    """State from `first()`, `work` at clients, and (state, metrics) from `server`."""
    initial = tff.tensorflow.computation(first)
    state_type = initial.type_signature.result
    at_clients = tff.tensorflow.computation(work, client_type)
    sum_type = at_clients.type_signature.result
    at_server = tff.tensorflow.computation(server, state_type, sum_type)

    @tff.federated_computation()
    def initialize() -> Any:
        return tff.federated_eval(initial, tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType(state_type, tff.SERVER),
        tff.FederatedType(client_type, tff.CLIENTS),
    )
    def next_round(state: Any, values: Any) -> Any:
        total = aggregate(tff.federated_map(at_clients, values))
        both = tff.federated_map(at_server, (state, total))
        return both[0], both[1]

    return tff.templates.IterativeProcess(initialize, next_round)


def adding(work: Any, client_type: Any = NUMBER, zero: Any = np.float32) -> Any:
    """Adds what the work gives to the state, which is also the metric."""
    return lambda: process(
        lambda: tf.constant(zero(0)),
        client_type,
        work,
        lambda state, total: (state + total, total),
    )


def _over(work: Any) -> Row:
    """A process over datasets of numbers."""
    return Row(adding(work, tff.SequenceType(NUMBER)), SETS)


def _folded(data: Any) -> Any:
    return data.reduce(0.0, lambda total, x: total * 0.5 + x)


@tf.function
def _iterated(data: Any) -> Any:
    total = tf.constant(0.0)
    for x in data:
        total += tf.square(x)
    return total


def _string_state() -> Any:
    return process(
        lambda: OrderedDict(log=tf.constant("start"), number=tf.constant(0, tf.int64)),
        NUMBER,
        lambda x: x,
        lambda state, total: (
            OrderedDict(
                log=tf.strings.join([state["log"], tf.strings.as_string(total)], ","),
                number=state["number"] + 1,
            ),
            OrderedDict(text=state["log"], total=total),
        ),
    )


def _half_state() -> Any:
    return process(
        lambda: OrderedDict(
            half=tf.zeros([2], tf.bfloat16),
            truth=tf.constant(False),
            byte=tf.constant(3, tf.uint8),
            real=tf.constant(1.5, tf.float64),
        ),
        NUMBER,
        lambda x: x,
        lambda state, total: (
            OrderedDict(
                half=state["half"] + tf.cast(total, tf.bfloat16),
                truth=tf.logical_not(state["truth"]),
                byte=state["byte"] + tf.constant(1, tf.uint8),
                real=state["real"] * 1.25,
            ),
            state["real"],
        ),
    )


def _nested_state() -> Any:
    return process(
        lambda: OrderedDict(
            a=OrderedDict(b=(tf.zeros([2]), tf.constant(1)), empty=()), c=tf.ones([1])
        ),
        NUMBER,
        lambda x: x,
        lambda state, total: (
            OrderedDict(
                a=OrderedDict(
                    b=(state["a"]["b"][0] + total, state["a"]["b"][1] + 2), empty=()
                ),
                c=state["c"] * total,
            ),
            (),
        ),
    )


def _empty_state() -> Any:
    client = tff.FederatedType(NUMBER, tff.CLIENTS)

    @tff.federated_computation()
    def initialize() -> Any:
        return tff.federated_value((), tff.SERVER)

    @tff.federated_computation(initialize.type_signature.result, client)
    def next_round(state: Any, values: Any) -> Any:
        return state, tff.federated_mean(values)

    return tff.templates.IterativeProcess(initialize, next_round)


def _unused() -> Any:
    @tff.tensorflow.computation(COUNT)
    def add_one(number: Any) -> Any:
        return number + 1

    @tff.federated_computation()
    def initialize() -> Any:
        return tff.federated_value(0, tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType(COUNT, tff.SERVER), tff.FederatedType(NUMBER, tff.CLIENTS)
    )
    def next_round(state: Any, values: Any) -> Any:
        del values
        new = tff.federated_map(add_one, state)
        return new, new

    return tff.templates.IterativeProcess(initialize, next_round)


def _weighted_mean() -> Any:
    client = tff.StructWithPythonType(
        [("value", tff.TensorType(np.float32, [2])), ("weight", NUMBER)], OrderedDict
    )
    vector = tff.TensorType(np.float32, [2])

    @tff.tensorflow.computation
    def zeros() -> Any:
        return tf.zeros([2])

    @tff.federated_computation()
    def initialize() -> Any:
        return tff.federated_eval(zeros, tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType(vector, tff.SERVER), tff.FederatedType(client, tff.CLIENTS)
    )
    def next_round(state: Any, values: Any) -> Any:
        del state
        mean = tff.federated_mean(values["value"], values["weight"])
        return mean, tff.federated_max(values["weight"])

    return tff.templates.IterativeProcess(initialize, next_round)


def _broadcast() -> Any:
    @tff.tensorflow.computation(NUMBER, NUMBER)
    def work(model: Any, x: Any) -> Any:
        return model - 0.1 * (model - x)

    @tff.federated_computation()
    def initialize() -> Any:
        return tff.federated_value(np.float32(0), tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType(NUMBER, tff.SERVER), tff.FederatedType(NUMBER, tff.CLIENTS)
    )
    def next_round(state: Any, values: Any) -> Any:
        sent = tff.federated_broadcast(state)
        new = tff.federated_mean(tff.federated_map(work, (sent, values)))
        return new, tff.federated_min(values)

    return tff.templates.IterativeProcess(initialize, next_round)


PAIRS = [
    [
        OrderedDict(value=np.array([v, -v], np.float32), weight=np.float32(w))
        for v, w in pairs
    ]
    for pairs in ([(1, 1), (2, 3)], [(5, 2)], [(0, 1), (1, 1), (4, 2)])
]


@tff.federated_computation(tff.FederatedType(NUMBER, tff.CLIENTS))
def _mean(values: Any) -> Any:
    return tff.federated_mean(values), tff.federated_sum(values)


@tff.federated_computation()
def _constant() -> Any:
    return tff.federated_value(np.float32(3), tff.SERVER)


STATES = {
    "string_state": Row(_string_state, NUMBERS),
    "half_and_byte_state": Row(_half_state, NUMBERS),
    "nested_state": Row(_nested_state, NUMBERS),
    "empty_state": Row(_empty_state, NUMBERS),
    "integer_64": Row(
        adding(lambda x: x * 2**33, tff.TensorType(np.int64), np.int64),
        [[np.int64(v) for v in vs] for vs in ([1, 2], [3], [4, -5])],
    ),
}

FEDERATED = {
    "unused_clients": Row(_unused, NUMBERS),
    "weighted_mean": Row(_weighted_mean, PAIRS),
    "broadcast": Row(_broadcast, NUMBERS),
    "empty_cohorts": Row(adding(lambda x: x), [[], NUMBERS[0], []]),
}

DATASETS = {
    "folded_dataset": _over(_folded),
    "iterated_dataset": _over(_iterated),
    "batched_dataset": _over(
        lambda data: data.batch(2).map(tf.reduce_sum).reduce(0.0, tf.maximum)
    ),
    "lists_for_datasets": Row(
        adding(_folded, tff.SequenceType(NUMBER)),
        [[[1.0, 2.0], [3.0]], [[4.0]], [[0.5], [1.5, 2.5, 3.5]]],
    ),
    "dataset_and_number": Row(
        adding(
            lambda value: _folded(value["data"]) * value["scale"],
            tff.StructWithPythonType(
                [("data", tff.SequenceType(NUMBER)), ("scale", NUMBER)], OrderedDict
            ),
        ),
        [
            [OrderedDict(data=d, scale=np.float32(n + 1)) for n, d in enumerate(sets)]
            for sets in SETS
        ],
    ),
    "two_datasets": Row(
        adding(
            lambda value: _folded(value[0]) - _iterated(value[1]),
            tff.to_type((tff.SequenceType(NUMBER), tff.SequenceType(NUMBER))),
        ),
        [[(d, d) for d in sets] for sets in SETS],
    ),
    "nested_elements": Row(
        adding(
            lambda data: data.reduce(0.0, lambda t, e: t + e["a"]["b"] * e["c"][0]),
            tff.SequenceType(
                OrderedDict(a=OrderedDict(b=NUMBER), c=(NUMBER,)),
            ),
        ),
        [
            [
                tf.data.Dataset.from_tensor_slices(
                    OrderedDict(
                        a=OrderedDict(b=np.arange(n, dtype=np.float32)),
                        c=(np.ones(n, np.float32),),
                    )
                )
                for n in sizes
            ]
            for sizes in ((2, 3), (1,), (4, 2))
        ],
    ),
}

COMPUTATIONS = {
    "plain_computation": Row(lambda: _mean, NUMBERS),
    "computation_without_clients": Row(lambda: _constant, [None, None]),
}

TABLE = {**STATES, **FEDERATED, **DATASETS, **COMPUTATIONS}
