"""Models whose examples see each other, or that refuse padding, in evaluations."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import models, tasks
from tfl_research.data import ClientData
from tfl_research.program.evaluation.evaluator import Evaluator


class CenterBatch(tf.keras.layers.Layer):
    def call(self, inputs):
        return inputs - tf.reduce_mean(inputs, 0, keepdims=True)


class NoZeros(tf.keras.layers.Layer):
    """Takes no row of zeros."""

    def call(self, inputs):
        sizes = tf.reduce_sum(tf.abs(inputs), axis=-1)
        with tf.control_dependencies([tf.debugging.assert_greater(sizes, 0.0)]):
            return tf.identity(inputs)


def model_with(layer):
    return tf.keras.Sequential(
        [tf.keras.layers.Input(4), layer(), tf.keras.layers.Dense(3)]
    )


def client(size, seed):
    generator = np.random.default_rng(seed)
    return {
        "x": generator.normal(seed, 1 + seed, (size, 4)).astype(np.float32),
        "y": generator.integers(0, 3, size).astype(np.int32),
    }


def task_of(build, sizes=(5, 0, 8), **settings):
    clients = {f"c{i}": client(size, i) for i, size in enumerate(sizes)}
    task = tasks.from_arrays(clients, model=build, test=0.0, **settings)
    return task, ClientData.from_arrays(clients)


def weights_of(model):
    return tff.learning.models.ModelWeights(
        [v.numpy() for v in model.trainable_variables],
        [v.numpy() for v in model.non_trainable_variables],
    )


def evaluated(build, sizes=(5, 0, 8), batch_size=6):
    """Our metrics and those of Keras' `evaluate`, by client."""
    task, data = task_of(build, sizes)
    keras = build()
    keras.compile(
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    with_test = type(task)(
        task.name, task.card, data, data, None, task.build_model, task.build_objective
    )
    found = Evaluator(with_test, batch_size=batch_size).evaluate(weights_of(keras))
    expected = [
        keras.evaluate(held["x"], held["y"], batch_size=batch_size, verbose=0)
        if len(held["x"])
        else [np.nan, np.nan]
        for _, held in data.items()
    ]
    return found, np.array(expected)


@pytest.mark.parametrize("layer", [CenterBatch, NoZeros])
def test_each_client_has_the_metrics_of_keras(layer):
    found, expected = evaluated(lambda: model_with(layer))
    np.testing.assert_allclose(found.per_client["loss"], expected[:, 0], 1e-5)
    np.testing.assert_allclose(found.per_client["accuracy"], expected[:, 1], 1e-5)
    # 13 examples, of which the client without examples has none.
    overall = (5 * expected[0, 0] + 8 * expected[2, 0]) / 13
    assert found.overall["loss"] == pytest.approx(overall, rel=1e-5)


def test_no_examples_of_a_layer_that_refuses_padding():
    task, data = task_of(lambda: model_with(NoZeros))
    nobody = ClientData.from_arrays({"c": client(0, 0), "d": client(0, 0)})
    empty = type(task)(
        task.name, task.card, data, nobody, None, task.build_model, task.build_objective
    )
    found = Evaluator(empty).evaluate(weights_of(model_with(NoZeros)))
    assert np.isnan(found.overall["loss"])
    assert np.isnan(found.per_client["accuracy"]).tolist() == [True, True]


def test_which_models_mix_predictions():
    def facts(build, **settings):
        model = models.from_keras(build, tf.TensorSpec([None, 4]), **settings)
        return model.mixes_predictions, model.predicts_no_padding

    assert facts(lambda: model_with(CenterBatch)) == (True, True)
    assert facts(lambda: model_with(NoZeros)) == (False, True)
    assert facts(lambda: model_with(lambda: tf.keras.layers.Dropout(0.5))) == (
        False,
        False,
    )
    # In evaluations batch normalization takes its statistics.
    normalization = tf.keras.layers.BatchNormalization
    assert facts(lambda: model_with(normalization), non_trainable="averaged") == (
        False,
        False,
    )


def test_a_functional_model_of_tff_that_centers_its_batch():
    def functional(centered):
        @tf.function
        def predict(weights, x, training):
            del training
            trainable, _ = weights
            x = x - tf.reduce_mean(x, 0) if centered else x
            return tf.matmul(x, trainable[0])

        return tff.learning.models.FunctionalModel(
            initial_weights=((np.eye(4, 3, dtype=np.float32),), ()),
            predict_on_batch_fn=predict,
            loss_fn=tf.function(lambda *_: 0.0),
            input_spec=(tf.TensorSpec([None, 4]), tf.TensorSpec([None], tf.int32)),
        )

    for centered in (True, False):
        found = models.as_functional(functional(centered), tf.TensorSpec([None, 4]))
        assert found.mixes_predictions == centered
        assert found.predicts_no_padding
