"""TensorFlow's ways to execute that a notebook may have left on are refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tfl_research as tfl
from tfl_research.errors import UserError

TRAINING = tfl.Training(rounds=1, report=False, export=False)


def experiment():
    def model():
        return tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(2,))])

    clients = {"a": {"x": np.zeros((4, 2)), "y": [0, 1, 0, 1]}}
    return tfl.Experiment(
        tfl.tasks.from_arrays(clients, model=model), training=TRAINING
    )


def process():
    @tff.federated_computation(tff.FederatedType(np.float32, tff.CLIENTS))
    def total(values):
        return tff.federated_sum(values)

    return tfl.ProcessExperiment(total, {"a": 1.0}, training=TRAINING)


@pytest.mark.parametrize("made", [experiment, process])
def test_what_cannot_run_is_refused_in_one_line(made, tmp_path):
    run = made()

    def refused(message):
        with pytest.raises(UserError, match=message) as error:
            run.run(tmp_path / "run", stream=io.StringIO())
        assert "\n" not in str(error.value)

    tf.config.run_functions_eagerly(True)
    try:
        refused(r"give tf\.config\.run_functions_eagerly\(False\)")
    finally:
        tf.config.run_functions_eagerly(False)
    with tf.Graph().as_default():
        refused(r"outside of a tf\.Graph")
    result = run.run(tmp_path / "run", stream=io.StringIO())
    assert result.stop_reason == "rounds"
