"""Keras models as pure functions, against the models themselves."""

import numpy as np
import pytest
import tensorflow as tf
from small_models import L, Subclassed, sequential

from tfl_research import models
from tfl_research.models import modules

SEED = tf.constant([3, 4])


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def spec_of(x):
    return tf.nest.map_structure(
        lambda a: tf.TensorSpec([None, *a.shape[1:]], tf.constant(a).dtype), x
    )


def call(model, x, training, seed=SEED):
    x = tf.nest.map_structure(tf.constant, x)
    return model.forward(model.initial_weights, model.initial_state, x, training, seed)


def adapted():
    layer = L.Normalization()
    # More than the 128 numbers that TensorFlow makes constants by itself.
    layer.adapt(np.arange(3000.0).reshape(10, 300))
    return sequential(layer, L.Dense(2), shape=(300,))


def adapted_words(**mode):
    layer = L.StringLookup(**mode)
    layer.adapt(["a", "b", "b", "c"])
    return layer


def embedded(lookup):
    layers = (lookup, L.Embedding(5, 2), L.Flatten(), L.Dense(2))
    return sequential(*layers, shape=(3,), dtype=tf.string)


def two_inputs_and_outputs():
    a, b = L.Input([3], name="a"), L.Input([2], name="b", dtype=tf.int32)
    joined = L.Concatenate()([a, L.Flatten()(L.Embedding(4, 2)(b))])
    return tf.keras.Model([b, a], {"y": L.Dense(2)(joined), "z": L.Dense(1)(joined)})


class Traced(L.Layer):
    """Is a `tf.function`, and changes a weight in it."""

    def build(self, shape):
        self.count = self.add_weight("count", [], trainable=False)

    @tf.function
    def call(self, x, training=None):
        if training:
            self.count.assign_add(1.0)
        return x * tf.exp(-self.count)


class Table(L.Layer):
    def __init__(self):
        super().__init__()
        keys = tf.lookup.KeyValueTensorInitializer(["a", "b"], [1.0, 2.0])
        self.table = tf.lookup.StaticHashTable(keys, -1.0)

    def call(self, x):
        return self.table.lookup(x)


WORDS = np.array([["a", "z", "b"], ["c", "c", "a"]], object)

# Model, inputs, and the attributes in which it differs from a plain model.
CASES = {
    "penalty": (
        lambda: sequential(L.Dense(2, kernel_regularizer="l2")),
        numbers(4, 6),
        {"has_penalty": True},
    ),
    "activity": (
        lambda: sequential(L.Dense(2, activity_regularizer="l2")),
        numbers(4, 6),
        {"has_penalty": True, "mixes_examples": True},
    ),
    "normalized": (
        lambda: sequential(L.BatchNormalization(), L.Dense(2)),
        numbers(4, 6),
        {"changing": (0, 1), "mixes_examples": True},
    ),
    "frozen_layer": (
        lambda: sequential(L.BatchNormalization(trainable=False), L.Dense(2)),
        numbers(4, 6),
        {},
    ),
    "subclassed": (
        Subclassed,
        numbers(4, 6),
        {"has_penalty": True, "changing": (0, 1), "mixes_examples": True},
    ),
    "traced": (
        lambda: sequential(Traced(), L.Dense(2)),
        numbers(4, 6),
        {"changing": (0,), "mixes_examples": True},
    ),
    "two_inputs": (
        two_inputs_and_outputs,
        {"a": numbers(4, 3), "b": np.ones([4, 2], np.int32)},
        {},
    ),
    "adapted": (adapted, numbers(4, 300), {}),
    "mixed_precision": (
        lambda: sequential(L.Dense(3, dtype="mixed_float16"), L.Dense(2)),
        numbers(4, 6),
        {},
    ),
    "words": (
        lambda: embedded(L.StringLookup(vocabulary=["a", "b", "c"])),
        WORDS,
        {},
    ),
    "text": (
        lambda: sequential(
            L.TextVectorization(vocabulary=["a", "b"], output_mode="multi_hot"),
            L.Dense(2),
            shape=(1,),
            dtype=tf.string,
        ),
        np.array([["a z b"], ["c c a"]], object),
        {},
    ),
    "adapted_words": (
        lambda: embedded(adapted_words()),
        WORDS,
        {},
    ),
    "frequencies": (
        lambda: sequential(
            adapted_words(output_mode="tf_idf"), L.Dense(2), shape=(3,), dtype=tf.string
        ),
        WORDS,
        {},
    ),
    "integers": (
        lambda: sequential(
            L.IntegerLookup(vocabulary=[10, 20, 30], num_oov_indices=2),
            L.Embedding(9, 2),
            L.Flatten(),
            L.Dense(2),
            shape=(3,),
            dtype=tf.int64,
        ),
        np.array([[10, 5, 20], [30, 30, 7]]),
        {},
    ),
    "table": (
        lambda: sequential(Table(), L.Dense(2), shape=(3,), dtype=tf.string),
        WORDS,
        {},
    ),
    # A layer of Keras that mixes examples, behind a head that hides what it does.
    "unit_batch": (
        lambda: sequential(
            L.UnitNormalization(axis=0), L.Dense(2, kernel_initializer="zeros")
        ),
        numbers(4, 6),
        {"mixes_examples": True},
    ),
    "mixing": (
        lambda: sequential(L.Lambda(lambda x: x - tf.reduce_mean(x, 0)), L.Dense(2)),
        numbers(4, 6),
        {"mixes_examples": True},
    ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_a_model_is_the_keras_model(name):
    build, x, facts = CASES[name]
    ours = models.from_keras(build, spec_of(x), seed=1, non_trainable="averaged")
    keras = models.built_model(build, spec_of(x), seed=1)
    inputs = tf.nest.map_structure(tf.constant, x)
    for training in (False, True):
        expected = keras(inputs, training=training)
        result = call(ours, x, training)
        tf.nest.map_structure(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6),
            result.predictions,
            expected,
        )
        np.testing.assert_allclose(result.penalty, sum(keras.losses), rtol=1e-6)
        state = modules.non_trainable_variables(keras)
        for value, variable in zip(result.state, state):
            np.testing.assert_allclose(value, variable, rtol=1e-5, atol=1e-7)
    plain = {"has_penalty": False, "changing": (), "mixes_examples": False}
    found = {fact: getattr(ours, fact) for fact in plain}
    assert found == {**plain, **facts}


def test_frozen_statistics_normalize_in_training_too():
    def build():
        return sequential(L.BatchNormalization(), L.Dense(2))

    x = numbers(4, 6)
    model = models.from_keras(build, spec_of(x), seed=1, non_trainable="frozen")
    assert model.changing == ()
    assert not model.mixes_examples
    trained, used = call(model, x, True), call(model, x, False)
    np.testing.assert_array_equal(trained.predictions, used.predictions)
    np.testing.assert_array_equal(trained.state[0], model.initial_state[0])


RANDOM = {
    "noise": (lambda: sequential(L.GaussianNoise(0.5), L.Dense(2)), numbers(4, 6)),
    "tf_random": (
        lambda: sequential(
            L.Lambda(lambda x: x + tf.random.truncated_normal(tf.shape(x))), L.Dense(2)
        ),
        numbers(4, 6),
    ),
    "shuffle": (
        lambda: sequential(L.Lambda(lambda x: tf.random.shuffle(x) - x), L.Dense(2)),
        numbers(9, 6),
    ),
    "recurrent": (
        lambda: sequential(
            L.SimpleRNN(3, dropout=0.3, recurrent_dropout=0.5), L.Dense(2), shape=(5, 2)
        ),
        numbers(4, 5, 2),
    ),
    "flip": (
        lambda: sequential(L.RandomFlip(), L.Flatten(), L.Dense(2), shape=(4, 4, 1)),
        numbers(9, 4, 4, 1),
    ),
    "contrast": (
        lambda: sequential(
            L.RandomContrast(0.9), L.Flatten(), L.Dense(2), shape=(4, 4, 1)
        ),
        numbers(4, 4, 4, 1),
    ),
    "rotation": (
        lambda: sequential(
            L.RandomRotation(0.5), L.Flatten(), L.Dense(2), shape=(4, 4, 1)
        ),
        numbers(4, 4, 4, 1),
    ),
}


@pytest.mark.parametrize("name", list(RANDOM))
def test_random_layers_draw_from_the_seed_alone(name):
    build, x = RANDOM[name]
    model = models.from_keras(build, spec_of(x), seed=1)
    again = models.from_keras(build, spec_of(x), seed=1)
    assert model.is_random

    def drawn(which, seed):
        return call(which, x, True, tf.constant(seed)).predictions.numpy()

    np.testing.assert_array_equal(drawn(model, [3, 4]), drawn(again, [3, 4]))
    assert np.abs(drawn(model, [3, 4]) - drawn(model, [3, 5])).max() > 1e-4


def test_redirected_numbers_have_their_distributions():
    def draw(x):
        shape = tf.shape(x)
        odds = tf.math.log([[0.2, 0.8]]) + 0.0 * x[:, :2]
        columns = [
            tf.random.uniform(shape, 2.0, 4.0),
            tf.random.normal(shape, 1.0, 2.0),
            tf.random.truncated_normal(shape),
            tf.cast(tf.random.uniform(shape, 0, 3, tf.int32), tf.float32),
            tf.cast(tf.random.categorical(odds, 1), tf.float32),
            x,
        ]
        return tf.stack([c[:, 0] for c in columns], axis=1)

    def build():
        return sequential(L.Lambda(draw), L.Dense(6, kernel_initializer="identity"))

    model = models.from_keras(build, tf.TensorSpec([None, 6]), seed=1)
    drawn = call(model, np.zeros((4000, 6), np.float32), True).predictions.numpy()
    uniform, normal, truncated, integers, categories, _ = drawn.T
    assert 2 < uniform.min() < 2.01
    assert 3.99 < uniform.max() < 4
    np.testing.assert_allclose([normal.mean(), normal.std()], [1, 2], atol=0.1)
    # A normal number between -2 and 2 has a standard deviation of 0.88.
    assert np.abs(truncated).max() <= 2
    assert abs(truncated.std() - 0.88) < 0.03
    assert set(integers) == {0, 1, 2}
    assert abs(integers.mean() - 1) < 0.05
    assert abs(categories.mean() - 0.8) < 0.03
