"""The traced functions of an evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfl_research import models
from tfl_research.program.evaluation.batch_programs import BatchPrograms
from tfl_research.tasks import objectives


def _build_model():
    return tf.keras.Sequential([tf.keras.Input([3]), tf.keras.layers.Dense(4)])


@pytest.fixture
def model():
    return models.from_keras(_build_model, tf.TensorSpec([None, 3]))


@pytest.fixture
def programs(model):
    return BatchPrograms(model, objectives.multiclass())


def batch(size, segments):
    generator = np.random.default_rng(size)
    return (
        {
            "x": generator.normal(size=[size, 3]).astype(np.float32),
            "y": generator.integers(0, 4, size).astype(np.int32),
        },
        generator.integers(0, segments, size).astype(np.int32),
        segments,
    )


@pytest.mark.parametrize("sizes", [(8, 8), (8, 5, 8), (1, 8)])
def test_sums_are_those_of_the_traced_function(programs, model, sizes):
    weights = [tf.constant(w) for w in model.initial_weights]
    for index, size in enumerate(sizes):
        examples, segments, count = batch(size, 2 + index)
        found, _ = programs.prepared(weights, [], examples, segments, count)()
        expected, _ = programs.batch_sums(
            weights, [], examples, segments, np.int32(count)
        )
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert found[name].numpy().tobytes() == value.numpy().tobytes()


def test_a_model_under_debugging_is_called_for_each_batch(programs, monkeypatch):
    calls = []
    monkeypatch.setattr(programs, "batch_sums", lambda *given: calls.append(given))
    monkeypatch.setattr(tf.config, "functions_run_eagerly", lambda: True)
    for _ in range(2):
        programs.prepared([], [], *batch(8, 2))()
    assert len(calls) == 2


def test_splits_of_all_sizes_share_a_trace(programs):
    traces = []
    finalize = programs._objective.finalize

    def counted(sums):
        traces.append(sums)
        return finalize(sums)

    object.__setattr__(programs._objective, "finalize", counted)
    sums = {name: tf.ones([5], tf.float64) for name in ("loss", "examples")}
    sums.update(correct=sums["loss"], predictions=sums["loss"])
    first = programs.finalize_each(sums)
    count = len(traces)
    second = programs.finalize_each({n: v[:2] for n, v in sums.items()})
    assert len(traces) == count
    np.testing.assert_array_equal(first["accuracy"], np.ones(5))
    np.testing.assert_array_equal(second["accuracy"], np.ones(2))


def test_a_split_without_clients_has_no_metrics(programs):
    sums = {
        name: tf.zeros([0], tf.float64)
        for name in ("loss", "examples", "correct", "predictions")
    }
    assert programs.finalize_each(sums)["loss"].shape == [0]
