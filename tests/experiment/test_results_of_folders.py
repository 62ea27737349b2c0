"""A result does not show the files of later rounds, or of another run."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
import tensorflow as tf

import tfl_research as tfl
from tfl_research.errors import UserError


def build_model():
    layer = tf.keras.layers.Dense(2, kernel_initializer="ones", input_shape=[3])
    return tf.keras.Sequential([layer])


@pytest.fixture(scope="module")
def experiment():
    x = np.random.default_rng(0).normal(size=(8, 3))
    clients = {name: {"x": x, "y": x[:, 0] > 0} for name in "ab"}
    return tfl.Experiment(
        tfl.tasks.from_arrays(clients, model=build_model, test=0),
        client_optimizer=tfl.SGD(0.5),
        training=tfl.Training(rounds=1, report=False),
    )


def run(experiment, folder, **settings):
    return experiment.with_settings(**settings).run(folder, stream=io.StringIO())


def kernel(result):
    return result.model().get_weights()[0]


def test_a_result_of_a_run_that_went_on(experiment, tmp_path):
    first = run(experiment, tmp_path)
    expected = kernel(first)
    again = run(experiment, tmp_path)
    np.testing.assert_array_equal(kernel(first), expected)
    np.testing.assert_array_equal(kernel(again), expected)
    longer = run(experiment, tmp_path, rounds=2)
    assert (kernel(longer) != expected).any()
    assert longer.measurements == {}
    for read in (first.model, lambda: first.measurements):
        with pytest.raises(UserError, match="result of 1 rounds any more") as error:
            read()
        assert "\n" not in str(error.value)
    assert len(first.metrics) == 1


def test_a_result_whose_folder_holds_another_run(experiment, tmp_path):
    first = run(experiment, tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(UserError, match="csv does not exist any more"):
        _ = first.measurements
    run(experiment, tmp_path / "run", client_learning_rate=0.1)
    with pytest.raises(UserError, match="holds another run"):
        first.model()


def test_a_changed_table_changes_no_other(experiment, tmp_path):
    result = run(experiment, tmp_path)
    table = result.metrics
    loss = table["train_loss"].iloc[0]
    table["train_loss"] = 0.0
    assert result.metrics["train_loss"].iloc[0] == loss > 0
