"""A model with attention, group norm and a layer of one's own, in all modes.

Clients' last batches are padded. The layer fails for rows of zeros, or mixes examples.
"""

import functools
import os

import numpy as np
import pytest
import tensorflow as tf
import toy_processes

from tfl_research import processes, runtime
from tfl_research.runtime import Mode
from tfl_research.runtime.compiler import chunk_execution

pytestmark = pytest.mark.slow

LENGTH, WIDTH, CLASSES = 6, 8, 300
MODES = [
    Mode("folded", "graph"),
    Mode("folded", "xla"),
    Mode("separate", "xla"),
    Mode("vectorised", "xla"),
    Mode("vectorised", "graph"),
]
# TensorFlow takes long to vectorise attention. Both compilers get the same graph.
if os.environ.get("TFL_CAMPAIGN") != "all":
    MODES.pop()
# Models that mix examples are not vectorised. That clients stay apart under XLA too is
# shown with the other model.
MIXING_MODES = MODES[: 3 if os.environ.get("TFL_CAMPAIGN") == "all" else 2]


class Shares(tf.keras.layers.Layer):
    """Has neither values nor gradients for an example of zeros."""

    def call(self, inputs):
        return inputs / tf.reduce_sum(tf.abs(inputs), axis=[1, 2], keepdims=True)


class CenterBatch(tf.keras.layers.Layer):
    """Mixes examples, so that padding has to be left out."""

    def call(self, inputs):
        return inputs - tf.reduce_mean(inputs, axis=0)


def attention_model(layer):
    inputs = tf.keras.Input([LENGTH, WIDTH])
    x = layer()(inputs)
    normed = tf.keras.layers.LayerNormalization()(x)
    attention = tf.keras.layers.MultiHeadAttention(2, 4)
    x = x + attention(normed, normed, use_causal_mask=True)
    x = tf.keras.layers.GroupNormalization(2)(x)
    x = tf.keras.layers.GlobalAveragePooling1D()(x)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(CLASSES)(x))


def examples(count, seed):
    generator = np.random.default_rng(seed)
    return {
        "x": generator.normal(1, 1, (count, LENGTH, WIDTH)).astype(np.float32),
        "y": generator.integers(0, CLASSES, count).astype(np.int32),
    }


def task_of(layer):
    builder = functools.partial(attention_model, layer)
    return toy_processes.make_task(builder, (7, 3, 5), examples)


@pytest.fixture(scope="module", params=[Shares, CenterBatch])
def found(request):
    """The results of the rounds by engine."""
    task = task_of(request.param)
    process = processes.build_fed_avg(task, client_optimizer=toy_processes.sgd())
    modes = MODES if request.param is Shares else MIXING_MODES
    engines = {mode: runtime.in_process(process, mode=mode) for mode in modes}
    engines["tff"] = runtime.tff_local(process)
    cohorts = toy_processes.cohorts_of_one_shape(task)
    return {
        name: toy_processes.rounds_of(engine, cohorts)
        for name, engine in engines.items()
    }


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_rounds_are_tffs(found, mode):
    if mode not in found:
        pytest.skip("not a mode of models that mix examples, or of the campaign")
    toy_processes.assert_same(found[mode], found["tff"])
    state, _ = found[mode]
    weights = [np.asarray(w) for w in toy_processes.leaves(state)]
    assert all(np.isfinite(w).all() for w in weights)


def test_vectorised_clients_are_not_left_to_tensorflow(monkeypatch):
    """A client's last steps are padding alone, which violates no guard."""
    task = task_of(Shares)
    process = processes.build_fed_avg(task, client_optimizer=toy_processes.sgd())
    violations = []

    def executed(by_mode, by_graph, refused, what=""):
        *results, violated = by_mode()
        violations.append(bool(violated))
        return results

    monkeypatch.setattr(chunk_execution, "executed", executed)
    engine = runtime.in_process(process, mode=Mode("vectorised", "xla"))
    toy_processes.rounds_of(engine, toy_processes.cohorts_of_one_shape(task))
    assert violations
    assert not any(violations)
