"""Models of TFF and low-rank adapters as models of a task."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import data, models, tasks
from tfl_research.models.adapters import merged
from tfl_research.program.results import export

L = tf.keras.layers
X = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
SPEC = tf.TensorSpec([None, 6], tf.float32)
INPUT = collections.OrderedDict(x=SPEC, y=tf.TensorSpec([None], tf.int32))
LOSS = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
Weights = collections.namedtuple("Weights", "trainable non_trainable")


def dense(**arguments):
    return tf.keras.Sequential(
        [L.Input([6]), L.Dense(3, **arguments), L.BatchNormalization(), L.Dense(2)]
    )


def variable_model():
    model = dense(kernel_regularizer="l2")
    return tff.learning.models.from_keras_model(
        model, loss=tf.keras.losses.MeanSquaredError(), input_spec=INPUT
    )


def reconstruction_model():
    model = tf.keras.Sequential([L.Input([6]), L.Dense(3), L.Dense(2)])
    return tff.learning.models.ReconstructionModel.from_keras_model_and_layers(
        model,
        global_layers=model.layers[1:],
        local_layers=model.layers[:1],
        input_spec=INPUT,
    )


def functional_model():
    model = tf.keras.Sequential([L.Input([6]), L.Dense(3), L.Dense(2)])
    return tff.learning.models.functional_model_from_keras(
        model, LOSS, input_spec=(SPEC, INPUT["y"])
    )


def task_of(model, **options):
    clients = {"a": {"x": X, "y": np.zeros(5, np.int32)}}
    train = data.ClientData.from_arrays(clients, batching=data.Batching(batch_size=2))
    card = tasks.Card("t", "client", "target", "own", "private")
    objective = tasks.objectives.multiclass
    return tasks.Task("t", card, train, train, None, model, objective, **options)


def test_a_variable_model_is_its_keras_model():
    task = task_of(variable_model, non_trainable="averaged")
    ours = task.functional_model(seed=1)
    theirs = models.from_keras(
        lambda: dense(kernel_regularizer="l2"), SPEC, seed=1, non_trainable="averaged"
    )
    results = [
        model.forward(
            theirs.initial_weights, theirs.initial_state, X, True, tf.constant([1, 2])
        )
        for model in (ours, theirs)
    ]
    assert float(results[0].penalty) > 0
    tf.nest.map_structure(np.testing.assert_array_equal, *results)
    with pytest.raises(ValueError, match=r"batch_normalization.*'averaged'"):
        task_of(variable_model).functional_model()


def test_a_functional_model_predicts_as_in_tff():
    ours = models.as_functional(functional_model, SPEC)
    weights = ours.initial_weights
    expected = (X @ weights[0] + weights[1]) @ weights[2] + weights[3]
    predictions = ours.predict(weights, (), X)
    np.testing.assert_allclose(predictions, expected, rtol=1e-5, atol=1e-6)


def test_global_weights_of_a_reconstruction_model_are_first():
    model = models.as_functional(reconstruction_model, SPEC, seed=1)
    assert [w.shape for w in model.initial_weights] == [(3, 2), (2,), (6, 3), (3,)]
    a, b, c, d = model.initial_weights
    predictions = model.predict(model.initial_weights, (), X)
    np.testing.assert_allclose(predictions, (X @ c + d) @ a + b, rtol=1e-5, atol=1e-6)


def test_other_models_are_exported_with_their_predictions(tmp_path):
    task = task_of(variable_model, non_trainable="frozen")
    model = task.functional_model()
    weights = [w + 1 for w in model.initial_weights]
    export.export_model(task, Weights(weights, model.initial_state), tmp_path / "m")
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    expected = model.predict(weights, model.initial_state, X)
    np.testing.assert_allclose(loaded.predict(X), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="expected the model's"):
        export.export_model(task, Weights(weights[1:], ()), tmp_path / "m")


def transformer():
    ids = L.Input([4], dtype=tf.int32)
    hidden = L.Embedding(9, 8)(ids)
    hidden = hidden + L.MultiHeadAttention(2, 4)(hidden, hidden)
    hidden = L.Dense(8, activation="relu")(L.LayerNormalization()(hidden))
    pooled = L.GlobalAveragePooling1D()(hidden)
    return tf.keras.Model(ids, L.Dense(2, name="head")(pooled))


class _Tied(L.Layer):
    """Logits by the embeddings of another layer."""

    def __init__(self, words):
        super().__init__()
        self.words = words

    def call(self, hidden):
        return tf.matmul(hidden, self.words.embeddings, transpose_b=True)


class TestLora:
    IDS = np.random.default_rng(1).integers(0, 9, (3, 4)).astype(np.int32)

    def test_begins_as_the_base_and_trains_adapters_alone(self):
        adapted = models.initialized(models.lora(transformer, 2, trainable=["head"]), 1)
        base = models.initialized(transformer, 1)
        np.testing.assert_allclose(adapted(self.IDS), base(self.IDS), rtol=1e-6)
        names = [w.name.split("/")[-1] for w in adapted.trainable_weights]
        adapters = [n for i in range(5) for n in (f"a_{i}:0", f"b_{i}:0")]
        assert names == ["kernel:0", "bias:0", *adapters]

    def test_is_exported_merged(self, tmp_path):
        task = task_of(models.lora(transformer, 2, alpha=4.0))
        clients = {"a": {"x": self.IDS, "y": np.zeros(3, np.int32)}}
        train = data.ClientData.from_arrays(clients, batching=task.train.batching)
        task = tasks.Task(
            "t", task.card, train, train, None, task.build_model, task.build_objective
        )
        model = task.functional_model()
        weights = [w + 0.1 for w in model.initial_weights]
        expected = model.predict(weights, model.initial_state, self.IDS)
        unchanged = model.predict(model.initial_weights, model.initial_state, self.IDS)
        assert np.abs(expected - unchanged).max() > 1e-3
        export.export_model(task, Weights(weights, model.initial_state), tmp_path / "m")
        loaded = tf.keras.models.load_model(tmp_path / "m", compile=False)
        np.testing.assert_allclose(loaded(self.IDS), expected, rtol=1e-5, atol=1e-6)
        assert len(loaded.weights) == len(transformer().weights)

    def test_hand_computed_change_of_a_kernel(self):
        def build():
            return tf.keras.Sequential([L.Input([2]), L.Dense(2, use_bias=False)])

        model = models.lora(build, 1, alpha=3.0)()
        kernel = model.layers[1].kernel
        kernel.assign([[1.0, 0.0], [0.0, 1.0]])
        a, b = model.trainable_weights
        a.assign([[1.0], [2.0]])
        b.assign([[1.0, -1.0]])
        # W + 3 A B = [[4, -3], [6, -5]]
        np.testing.assert_array_equal(model(np.eye(2)), [[4, -3], [6, -5]])

    @pytest.mark.parametrize("kind", ["tied", "nested"])
    def test_is_merged_wherever_the_weights_are_used(self, kind):
        def tied():
            ids = L.Input([4], dtype=tf.int32)
            words = L.Embedding(9, 3)
            return tf.keras.Model(ids, _Tied(words)(L.Dense(3)(words(ids))))

        def nested():
            ids = L.Input([4], dtype=tf.int32)
            return tf.keras.Model(ids, L.Dense(2)(models.lora(transformer, 2)()(ids)))

        build = nested
        if kind == "tied":
            build = models.lora(tied, 2, layers=lambda layer: True)
        spec = tf.TensorSpec([None, 4], tf.int32)
        model = models.from_keras(build, spec)
        weights = [w + 0.5 for w in model.initial_weights]
        expected = model.predict(weights, model.initial_state, self.IDS)
        keras = models.built_model(build, spec)
        export.assign_weights(keras, Weights(weights, model.initial_state))
        keras = merged(keras)
        np.testing.assert_allclose(keras(self.IDS), expected, rtol=1e-5, atol=1e-5)
        names = [type(layer).__name__ for layer in keras.submodules]
        assert "Adapters" not in names

    def test_refuses_what_it_cannot_adapt(self):
        with pytest.raises(ValueError, match="rank must be at least 1, got 0"):
            models.lora(transformer, 0)
        with pytest.raises(ValueError, match="no layer 'tail'; expected one of"):
            models.lora(transformer, 1, trainable=["tail"])()
        with pytest.raises(ValueError, match="no layer that can have adapters"):
            models.lora(transformer, 1, layers=lambda layer: False)()
        with pytest.raises(ValueError, match="has adapters already"):
            models.lora(models.lora(transformer, 1), 1)()
        with pytest.raises(ValueError, match="the model is not built yet"):
            models.lora(lambda: tf.keras.Sequential([L.Dense(2, name="late")]), 1)()
