"""A model that Keras cannot save is refused in one line before the first round."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tfl_research as tfl
from tfl_research import tasks
from tfl_research.errors import UserError
from tfl_research.program.results import keras_saving
from tfl_research.program.results.export import check_export

X = np.eye(3, dtype=np.float32)
Y = np.array([0, 1, 0], np.int32)
# The line ends after the reason and the way out: no text of several lines.
REFUSED = (
    r"^the model {} cannot be saved as a SavedModel \({}: .*\); change it, or give "
    r"export=False$"
)


class ByNumber(tf.keras.Model):
    """Keras saves no dictionary whose keys are numbers."""

    def __init__(self):
        super().__init__()
        self.branches = {0: tf.keras.layers.Dense(2), 1: tf.keras.layers.Dense(2)}

    def call(self, x):
        return self.branches[0](x) + self.branches[1](x)


class OtherSelf(tf.keras.Model):
    """Keras' saving finds the first argument by its name."""

    def __init__(self):
        super().__init__()
        self.dense = tf.keras.layers.Dense(2)

    def call(this, x, training=None):
        return this.dense(x)


class Fits(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = tf.keras.layers.Dense(2)

    def call(self, x):
        return self.dense(x)


class Branches(tf.keras.layers.Layer):
    """Has control flow over a tensor, which Keras trains and does not save."""

    def call(self, x):
        if tf.reduce_sum(x) > 1e6:
            x = x / 2
        return x


class SavedBranches(Branches):
    @tf.function
    def call(self, x):
        return super().call(x)


def of_layer(layer):
    def build():
        dense = tf.keras.layers.Dense(2, input_shape=(3,))
        return tf.keras.Sequential([dense, layer()])

    return build


def experiment(model, callback, **training):
    task = tasks.from_arrays({n: {"x": X, "y": Y} for n in "ab"}, model=model, test=0)
    return tfl.Experiment(
        task,
        cohorts=tfl.Cohorts("full"),
        callbacks=(callback,),
        training=tfl.Training(rounds=1, report=False, **training),
    )


class Rounds(tfl.Callback):
    def __init__(self):
        self.seen = 0

    def on_round(self, report):
        self.seen += 1


@pytest.mark.parametrize(
    ("model", "error"), [(ByNumber, "ValueError"), (OtherSelf, "TypeError")]
)
def test_a_model_that_cannot_be_saved(model, error, tmp_path):
    rounds = Rounds()
    with pytest.raises(UserError, match=REFUSED.format(model.__name__, error)):
        experiment(model, rounds).run(tmp_path / "run")
    assert rounds.seen == 0
    result = experiment(model, rounds, export=False).run(tmp_path / "run")
    assert rounds.seen == 1
    assert len(result.metrics) == 1


def test_a_layer_with_control_flow_over_tensors(tmp_path):
    rounds = Rounds()
    remedy = "decorate its call with @tf.function, or give export=False$"
    with pytest.raises(UserError, match=f"layer 'branches.*; {remedy}"):
        experiment(of_layer(Branches), rounds).run(tmp_path / "run")
    assert rounds.seen == 0
    result = experiment(of_layer(SavedBranches), rounds).run(tmp_path / "run")
    loaded = tf.keras.models.load_model(tmp_path / "run" / "export" / "final")
    expected = result.model().predict(X, verbose=0)
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), expected)


def test_a_model_is_tried_until_it_can_be_saved(monkeypatch):
    tried = []
    monkeypatch.setattr(keras_saving, "save", lambda model, _: tried.append(model))
    task = experiment(Fits, Rounds()).task
    refused = experiment(ByNumber, Rounds()).task
    for _ in range(2):
        check_export(task)
    assert len(tried) == 1
    monkeypatch.undo()
    for _ in range(2):
        with pytest.raises(UserError, match="cannot be saved"):
            check_export(refused)


def test_a_model_of_a_users_own_that_can_be_saved(tmp_path):
    result = experiment(Fits, Rounds()).run(tmp_path / "run")
    assert result.model().predict(X, verbose=0).shape == (3, 2)


def test_a_model_of_known_layers_is_not_tried(monkeypatch):
    monkeypatch.setattr(keras_saving, "save", None)
    keras_saving.check(
        tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,))])
    )
    model = Fits()
    model(X)
    with pytest.raises(TypeError):
        keras_saving.check(model)


def test_the_model_of_a_process(tmp_path):
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(3)

    def model_fn():
        model = ByNumber()
        model(X)
        return tff.learning.models.from_keras_model(
            model,
            input_spec=data.element_spec,
            loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )

    def keras_model():
        model = ByNumber()
        model(X)
        return model

    process = tff.learning.algorithms.build_weighted_fed_avg(
        model_fn,
        client_optimizer_fn=tff.learning.optimizers.build_sgdm(0.1),
        server_optimizer_fn=tff.learning.optimizers.build_sgdm(1.0),
    )
    rounds = Rounds()
    with pytest.raises(UserError, match=REFUSED.format("ByNumber", "ValueError")):
        tfl.ProcessExperiment(
            process,
            {"a": data},
            model=keras_model,
            callbacks=(rounds,),
            training=tfl.Training(rounds=1, report=False),
        ).run(tmp_path / "run")
    assert rounds.seen == 0


def adapted():
    """Keras does not know the shape of what the first layer adapted."""
    bins = tf.keras.layers.Discretization(num_bins=2, output_mode="one_hot")
    bins.adapt(X[:, 0])
    words = tf.keras.layers.IntegerLookup(output_mode="one_hot")
    words.adapt([0, 1, 1])
    first = tf.keras.Input([3])
    column = first[:, :1]
    features = [bins(column), words(tf.cast(column, tf.int64)), first]
    joined = tf.keras.layers.Concatenate()(features)
    return tf.keras.Model(first, tf.keras.layers.Dense(2)(joined))


def test_adapted_layers_are_exported_with_what_they_adapted(tmp_path):
    result = experiment(adapted, Rounds()).run(tmp_path / "run")
    trained = adapted()
    for variable, value in zip(
        trained.trainable_variables, result.ended.state.global_model_weights.trainable
    ):
        variable.assign(value)
    np.testing.assert_allclose(result.model()(X), trained(X), atol=1e-6)
    assert np.ptp(trained(X)) > 0.1
