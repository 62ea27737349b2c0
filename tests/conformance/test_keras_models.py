"""Keras models in the toolkit against Keras' own `fit`, and against TFF.

Each row of the tables is a model. By default rows that stand for a mechanism also run
as federated processes; with TFL_CONFORMANCE=all every row does, on every engine.
"""

import itertools
import os
import re
from typing import Optional

import keras_layers
import keras_not_compiled
import keras_random
import keras_refused
import keras_sequences
import keras_structures
import keras_training
import numpy as np
import pytest
import tensorflow as tf
from keras_row import keras_fit, keras_predictions
from keras_runs import by_keras, by_tff, federated_process, on_engine, trained

from tfl_research import runtime
from tfl_research.runtime import Mode

ALL = os.environ.get("TFL_CONFORMANCE") == "all"
TABLE = {
    **keras_layers.TABLE,
    **keras_sequences.TABLE,
    **keras_structures.TABLE,
    **keras_training.TABLE,
}
RANDOM, REFUSED = keras_random.TABLE, keras_refused.TABLE
NOT_COMPILED = keras_not_compiled.REASONS
GRAPH, XLA = Mode("folded", "graph"), Mode("folded", "xla")
EVERY = {**TABLE, **RANDOM}
# Statistics of a client's own need a table of clients' states.
FEDERATED = [
    name
    for name, row in EVERY.items()
    if (ALL or row.represents) and row.non_trainable != "local"
]
# Base classes, wrappers of functions, and what has no place in a model.
NO_LAYERS = {
    "AbstractRNNCell",
    "DenseFeatures",
    "InputSpec",
    "Layer",
    # Refused: see keras_refused.
    "SpectralNormalization",
    "StackedRNNCells",
    "Wrapper",
}


def assert_close(ours, theirs, tolerance):
    assert len(ours) == len(theirs)
    for one, two in zip(ours, theirs):
        if np.asarray(two).dtype.kind in "OSU":
            np.testing.assert_array_equal(one, two)
        else:
            np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance)


def assert_predicts(ours, theirs, tolerance):
    tf.nest.assert_same_structure(ours, theirs)
    assert_close(tf.nest.flatten(ours), tf.nest.flatten(theirs), 3 * tolerance)


@pytest.mark.parametrize("name", [n for n in TABLE if ALL or TABLE[n].quick])
def test_local_training_is_keras_own_fit(name):
    row = TABLE[name]
    ours = trained(row)
    weights, state, predictions = keras_fit(row, ours.initial, ours.initial_state)
    assert any((a != b).any() for a, b in zip(ours.weights, ours.initial))
    assert_close(ours.weights, weights, row.tolerance)
    assert_close(ours.state, state, row.tolerance)
    assert_predicts(ours.predictions, predictions, row.tolerance)


@pytest.mark.parametrize("name", [n for n in RANDOM if ALL or RANDOM[n].quick])
def test_random_layers_draw_from_the_seed_alone(name):
    row = RANDOM[name]
    tf.random.set_seed(1)
    ours = trained(row)
    tf.random.set_seed(2)
    again, other = trained(row), trained(row, seed=6)
    for one, two in zip(ours.weights, again.weights):
        np.testing.assert_array_equal(one, two)
    assert any((a != b).any() for a, b in zip(ours.weights, other.weights))
    assert all(np.isfinite(w).all() for w in ours.weights)
    expected = keras_predictions(row, ours.weights, ours.state)
    assert_predicts(ours.predictions, expected, row.tolerance)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_honoured_is_refused_in_one_line(name):
    with pytest.raises(ValueError, match=REFUSED[name].refused) as refused:
        trained(REFUSED[name])
    assert len(str(refused.value).strip().splitlines()) == 1


def assert_refused(process, cohorts, reason):
    """Refuses XLA in one line with this reason."""
    with pytest.raises(runtime.UnsupportedProcess, match=reason) as refused:
        on_engine(runtime.in_process(process, mode=XLA), cohorts)
    line = str(refused.value)
    assert line.startswith("mode folded, xla cannot execute this process: ")
    assert len(line.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", FEDERATED)
def test_federated_averaging_agrees_with_keras_and_tff(name, on_a_worker):
    row = EVERY[name]
    process, cohorts = federated_process(row)
    modes: list[Optional[Mode]] = [GRAPH]
    if ALL and name in NOT_COMPILED:
        assert_refused(process, cohorts, NOT_COMPILED[name])
        # The mode that is measured.
        modes.append(None)
    elif ALL:
        modes.append(XLA)
    found = [on_engine(runtime.in_process(process, mode=m), cohorts) for m in modes]
    if ALL or row.random:
        found.append(on_engine(runtime.tff_local(process), cohorts))
    if not row.random:
        found.append(by_keras(row))
    for one in found[1:]:
        assert_close(found[0].weights, one.weights, row.tolerance)
        assert_close(found[0].state, one.state, row.tolerance)
    if row.tff and not row.random and (ALL or name == "head_softmax"):
        assert_close(found[0].weights, by_tff(row), row.tolerance)


@pytest.mark.skipif(not ALL, reason="builds every model")
def test_every_layer_of_keras_is_in_a_row():
    found = set()
    for row in EVERY.values():
        for module in row.build()._flatten_layers():
            found.update(kind.__name__ for kind in type(module).__mro__)
    layers = {
        value.__name__
        for value in vars(tf.keras.layers).values()
        if isinstance(value, type) and issubclass(value, tf.Module)
    }
    assert layers - found - NO_LAYERS == set()


def test_there_are_enough_rows_of_different_names():
    tables = (TABLE, RANDOM, REFUSED)
    assert len(TABLE) >= 60
    for one, two in itertools.combinations(tables, 2):
        assert not one.keys() & two.keys()
    for row in REFUSED.values():
        re.compile(row.refused)
    assert NOT_COMPILED.keys() <= set(FEDERATED if ALL else EVERY)
