"""Digests of processes: equal for one recipe anywhere, different for any change.

As a program, this file prints the digests of `RECIPES`, built after another model.
"""

from __future__ import annotations

import collections
import functools
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from toy_processes import (
    CLASSES,
    FEATURES,
    dropout_builder,
    keras_model_fn,
    make_task,
    mechanism,
    sgd,
    summing_process,
)

from tfl_research import processes, runtime
from tfl_research.runtime.compiler import forms
from tfl_research.runtime.digests import computation_digest

PARTS = {"initial_state", "client_computation", "aggregation", "server_update"}


def builder(activation="relu", seed=3):
    return tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer((FEATURES,)),
            tf.keras.layers.Dense(
                5,
                activation=activation,
                kernel_initializer=tf.keras.initializers.GlorotUniform(seed=seed),
            ),
            tf.keras.layers.Dense(CLASSES),
        ]
    )


def private(
    *, activation="relu", model_seed=3, client_rate=0.1, server_rate=1.0, **changes
):
    return processes.build_fed_avg(
        make_task(functools.partial(builder, activation, model_seed)),
        client_optimizer=sgd(client_rate),
        server_optimizer=sgd(server_rate),
        client_weighting=processes.uniform(),
        aggregator=mechanism(**changes),
    )


def dependent_sums(factor=2):
    """A round with two sums, the second of which needs the first: no map-reduce."""
    state_type = tff.FederatedType(np.int32, tff.SERVER)

    @tff.tensorflow.computation(np.int32, np.int32)
    def scaled(value, total):
        return factor * value * total

    @tff.federated_computation
    def initialize():
        return tff.federated_value(0, tff.SERVER)

    @tff.federated_computation(state_type, tff.FederatedType(np.int32, tff.CLIENTS))
    def next_round(state, values):
        total = tff.federated_broadcast(tff.federated_sum(values))
        return tff.federated_sum(tff.federated_map(scaled, (values, total))), state

    return tff.templates.IterativeProcess(initialize, next_round)


def tffs_own():
    return tff.learning.algorithms.build_weighted_fed_avg(keras_model_fn, sgd())


RECIPES = {
    "private": private,
    "dependent_sums": dependent_sums,
    "tffs_own": tffs_own,
}


@pytest.fixture(scope="module")
def here():
    return {
        name: runtime.computation_digests(build()) for name, build in RECIPES.items()
    }


@pytest.mark.slow
def test_another_python_process_gives_the_same_digests(here):
    done = subprocess.run(
        [sys.executable, __file__],
        capture_output=True,
        text=True,
        check=True,
        cwd=pathlib.Path(__file__).parent,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == here


def test_built_again_in_this_process_they_are_the_same(here):
    for name, build in RECIPES.items():
        assert runtime.computation_digests(build()) == here[name]


def test_the_parts(here):
    assert here["private"].keys() == here["tffs_own"].keys() == PARTS
    assert here["dependent_sums"].keys() == {"initial_state", "round"}
    for digests in here.values():
        assert all(len(bytes.fromhex(d)) == 32 for d in digests.values())


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"activation": "tanh"}, {"client_computation"}),
        ({"model_seed": 4}, {"initial_state"}),
        ({"client_rate": 0.11}, {"client_computation"}),
        ({"server_rate": 0.9}, {"initial_state"}),
        ({"l2_norm_clip": 0.3}, {"initial_state"}),
        ({"noise_multiplier": 0.0}, {"server_update"}),
        ({"noise_multiplier": 0.71}, {"server_update"}),
        ({"noise_seed": 2**90 + 18}, {"initial_state"}),
        ({"expected_cohort_size": 5}, {"server_update"}),
    ],
    ids=str,
)
def test_any_change_is_seen(here, changes, parts):
    digests = runtime.computation_digests(private(**changes))
    changed = {name for name in PARTS if digests[name] != here["private"][name]}
    assert changed
    assert changed == parts


def test_changes_without_a_map_reduce_form_are_seen(here):
    digests = runtime.computation_digests(dependent_sums(3))
    assert digests["initial_state"] == here["dependent_sums"]["initial_state"]
    assert digests["round"] != here["dependent_sums"]["round"]


def test_building_blocks_do_not_depend_on_the_names_in_them():
    number = tff.FederatedType(np.int32, tff.CLIENTS)

    def computation(swapped=False):
        @tff.federated_computation(number, number)
        def both(a, b):
            return (b, a) if swapped else (a, b)

        return both

    @tff.federated_computation(number, number)
    def renamed(first, second):
        return first, second

    assert computation_digest(computation()) == computation_digest(computation())
    assert computation_digest(computation()) != computation_digest(computation(True))
    plus, minus = (
        summing_process(lambda v, sign=sign: tff.federated_secure_sum(v, 10 + sign))
        for sign in (1, -1)
    )
    assert computation_digest(plus.next) != computation_digest(minus.next)


def with_client_work(function):
    """A process of a user's own; models of the toolkit draw by its seeds."""

    @tff.tensorflow.computation(tff.TensorType(np.float32, [2, FEATURES]))
    def work(x):
        return tf.cast(tf.reduce_sum(function(x)), tf.int32)

    @tff.federated_computation
    def initialize():
        return tff.federated_value(0, tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType(np.int32, tff.SERVER),
        tff.FederatedType(work.type_signature.parameter, tff.CLIENTS),
    )
    def next_round(state, values):
        return state, tff.federated_sum(tff.federated_map(work, values))

    return tff.templates.IterativeProcess(initialize, next_round)


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda x: x + tf.random.normal(tf.shape(x), seed=1), "RandomStandardNormal"),
        (lambda x: tf.nn.dropout(x, 0.5), "RandomUniform"),
        (lambda x: x + tf.random.truncated_normal(tf.shape(x)), "TruncatedNormal"),
        (lambda x: tf.random.shuffle(x), "RandomShuffle"),
        (
            lambda x: tf.ensure_shape(
                tf.numpy_function(lambda a: 2 * a, [x], tf.float32), [None, FEATURES]
            ),
            "PyFunc",
        ),
        (
            lambda x: x + tf.random.stateless_normal(tf.shape(x), [1, 2]),
            None,
        ),
        (lambda x: 2 * x, None),
    ],
)
def test_operations_that_no_digest_covers(function, operation):
    found = runtime.unrepeatable_operations(with_client_work(function))
    assert found == ([] if operation is None else [operation])


@pytest.mark.parametrize("build", RECIPES.values())
def test_processes_without_such_operations(build):
    assert not runtime.unrepeatable_operations(build())


@pytest.mark.parametrize("first", ["digests", "engine"])
def test_the_form_is_compiled_once(monkeypatch, first):
    process = summing_process(tff.federated_sum)
    compiled = []

    class Counting(forms.MapReduce):
        def __init__(self, process):
            compiled.append(process)
            super().__init__(process)

    monkeypatch.setattr(forms, "MapReduce", Counting)
    if first == "digests":
        digests = runtime.computation_digests(process)
        engine = runtime.in_process(process)
    else:
        engine = runtime.in_process(process)
        digests = runtime.computation_digests(process)
    assert compiled == [process]
    assert digests == runtime.computation_digests(summing_process(tff.federated_sum))
    _, total = engine.next(engine.initialize(), [1, 2, 3])
    assert int(total) == 6
    # A second engine has graphs of its own.
    assert runtime.in_process(process)._programs is not engine._programs


if __name__ == "__main__":
    processes.build_fed_avg(make_task(dropout_builder), client_optimizer=sgd(0.3))
    tffs_own()
    print(json.dumps({n: runtime.computation_digests(b()) for n, b in RECIPES.items()}))


def test_the_members_that_clients_read_count():
    """One member's type is the other's, so only its place tells them apart."""
    kinds = collections.OrderedDict(age=np.float32, diagnosis=np.float32)
    state_type = tff.FederatedType(np.float32, tff.SERVER)

    @tff.federated_computation
    def initialize():
        return tff.federated_value(np.float32(0), tff.SERVER)

    def digest(name):
        work = tff.tensorflow.computation(lambda client: 2.0 * client[name], kinds)

        @tff.federated_computation(state_type, tff.FederatedType(kinds, tff.CLIENTS))
        def next_round(state, values):
            return state, tff.federated_sum(tff.federated_map(work, values))

        process = tff.templates.IterativeProcess(initialize, next_round)
        return runtime.computation_digests(process)["client_computation"]

    assert digest("age") == digest("age")
    assert digest("age") != digest("diagnosis")
