"""Functions and classes of a user's own that raise: the error names their line."""

from __future__ import annotations

import io
import runpy

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tfl_research as tfl
from tfl_research.errors import UserError, users_line

# The lines of a user's file; a case breaks one of them.
CODE = """\
import tensorflow as tf
import tensorflow_federated as tff

import tfl_research as tfl


class Layer(tf.keras.layers.Layer):
    def call(self, x):
        return x.no_layer


class Factory(tff.aggregators.UnweightedAggregationFactory):
    def create(self, value_type):
        return value_type.no_factory


class Watch(tfl.Callback):
    def on_round(self, report):
        {}["no callback"]


def own_layer():
    return tf.keras.Sequential([tf.keras.layers.Input([2]), Layer()])


def builder():
    return tf.keras.layers.Dense(int("no builder"))


def loss(y, predictions):
    return predictions.no_loss


def metric(y, predictions):
    return predictions.no_metric


def metrics():
    return tfl.tasks.objectives.from_keras("mse", [metric])


def objective():
    return {}["no objective"]


def values(client_id):
    return {}["no values"]


def dataset(client_id):
    numbers = tf.data.Dataset.from_tensor_slices([[1.0]])
    return numbers.map(lambda x: x.no_dataset)


def evaluate(state):
    return {}["no evaluate"]
"""


def model():
    layer = tf.keras.layers.Dense(1, input_shape=[2])
    return tf.keras.Sequential([layer])


def training(**parts):
    x = np.zeros((4, 2))
    task = {n: parts.pop(n) for n in ("model", "objective") if n in parts}
    task = {"model": model, "objective": "regression", **task}
    return tfl.Experiment(
        tfl.tasks.from_arrays({"a": {"x": x, "y": x[:, :1]}}, **task),
        training=tfl.Training(rounds=1, report=False, export=False),
        **parts,
    )


def process(clients, **parts):
    @tff.federated_computation
    def initialize():
        return tff.federated_value(0.0, tff.SERVER)

    @tff.federated_computation(
        initialize.type_signature.result, tff.FederatedType(np.float32, tff.CLIENTS)
    )
    def following(state, numbers):
        return state, tff.federated_sum(numbers)

    return tfl.ProcessExperiment(
        tff.templates.IterativeProcess(initialize, following),
        clients,
        training=tfl.Training(rounds=1, report=False),
        **parts,
    )


CASES = {
    "layer": lambda own: training(model=own["own_layer"]),
    "builder": lambda own: training(model=own["builder"]),
    "loss": lambda own: training(objective=own["loss"]),
    "metric": lambda own: training(objective=own["metrics"]),
    "objective": lambda own: training(objective=own["objective"]),
    "factory": lambda own: training(aggregator=own["Factory"]()),
    "callback": lambda own: training(callbacks=[own["Watch"]()]),
    "values": lambda own: process(own["values"], client_ids=["a"]),
    "evaluate": lambda own: process({"a": 1.0}, evaluate=own["evaluate"]),
    "dataset": lambda own: tfl.tasks.from_datasets(
        own["dataset"], client_ids=["a"], model=model
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_error_names_the_line(case, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    own = runpy.run_path(str(path))
    with pytest.raises((UserError, ValueError, RuntimeError)) as error:
        CASES[case](own).run(tmp_path / "run", stream=io.StringIO())
    wanted = (f"no {case}", f"no_{case}")
    number = next(
        n
        for n, line in enumerate(CODE.splitlines(), 1)
        if any(word in line for word in wanted)
    )
    said = str(error.value)
    assert f"line {number} of mine.py" in said
    assert any(word in said for word in wanted)
    assert "\n" not in said


def test_code_of_the_toolkit_and_of_packages_is_not_the_users():
    with pytest.raises(ValueError, match="cannot reshape") as error:
        np.zeros(2).reshape(3)
    assert users_line(error.value).startswith(", in test_code_of")
    own = error.value.with_traceback(None)
    assert users_line(own) == ""
