"""A builder must make the same function of the weights at each call."""

from __future__ import annotations

import random

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import tasks
from tfl_research.errors import UserError

L = tf.keras.layers
X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def functional_model(build, seed=0, x=X, **options):
    clients = {"a": {"x": x, "y": np.arange(6) % 3}}
    task = tasks.from_arrays(clients, model=build, test=0, **options)
    return task.functional_model(seed)


def with_features(matrix, dtype=None):
    """A classifier of random features, which a constant matrix makes."""
    start = L.Input([4])
    features = tf.cos(tf.matmul(start, tf.constant(matrix, tf.float32)))
    return tf.keras.Model(start, L.Dense(3, dtype=dtype)(features))


class Features(L.Layer):
    def __init__(self, trainable=True):
        super().__init__(trainable=trainable)
        self.matrix = np.random.default_rng().normal(size=(4, 9)).astype(np.float32)

    def call(self, x):
        return tf.cos(x @ self.matrix)


class Kept(L.Layer):
    """The same, with a weight instead of a constant."""

    def build(self, shape):
        drawn = np.random.default_rng().normal(size=(4, 9))
        initial = tf.keras.initializers.Constant(drawn)
        self.matrix = self.add_weight("m", (4, 9), initializer=initial, trainable=False)

    def call(self, x):
        return tf.cos(x @ self.matrix)


class Shaken(L.Layer):
    """Draws in predictions too."""

    def call(self, x):
        return x + tf.random.normal(tf.shape(x))


class Steps(L.Layer):
    def call(self, x):
        return tf.sign(x) + tf.round(10 * x)


def by_tff(matrix):
    spec = tf.TensorSpec([None, 4]), tf.TensorSpec([None], tf.int32)
    return tff.learning.models.from_keras_model(
        with_features(matrix),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        input_spec=spec,
    )


def counting():
    counts = iter(range(100))

    def build():
        units = 5 + next(counts)
        return tf.keras.Sequential([L.Input([4]), L.Dense(units), L.Dense(3)])

    return build


def fixed():
    return np.random.default_rng(0).normal(size=(4, 9))


DIFFER = "another model each time: with the same weights.*np.random.default_rng"
REFUSED = {
    "constant": (lambda: with_features(np.random.default_rng().normal(size=(4, 9)))),
    "of the run's seed, by NumPy": lambda: with_features(np.random.normal(size=(4, 9))),
    "of the run's seed, by TensorFlow": lambda: with_features(
        tf.random.normal((4, 9)).numpy()
    ),
    "of the run's seed, by Python": lambda: tf.keras.Sequential(
        [L.Input([4]), L.Rescaling(random.uniform(1, 9)), L.Dense(3)]
    ),
    "layer": lambda: tf.keras.Sequential([L.Input([4]), Features(), L.Dense(3)]),
    "subclass": lambda: tf.keras.Sequential([Features(), L.Dense(3)]),
    "normalization": lambda: tf.keras.Sequential(
        [
            L.Input([4]),
            L.Normalization(mean=np.random.default_rng().normal(), variance=1.0),
            L.Dense(3),
        ]
    ),
    "half precision": lambda: with_features(
        np.random.default_rng().normal(size=(4, 9)), "mixed_float16"
    ),
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", REFUSED)
def test_other_constants_at_each_call_are_refused(name, seed):
    with pytest.raises(UserError, match=DIFFER) as error:
        functional_model(REFUSED[name], seed)
    assert "\n" not in str(error.value)


def test_other_constants_of_a_tff_model_are_refused():
    with pytest.raises(UserError, match=DIFFER):
        functional_model(lambda: by_tff(np.random.default_rng().normal(size=(4, 9))))


def test_weights_of_other_shapes_are_refused():
    message = r"another model each time, with weights of shapes \[\[4, 5\], .*\[4, 6\]"
    with pytest.raises(UserError, match=message):
        functional_model(counting())


TAKEN = {
    "a seed of its own": lambda: with_features(fixed()),
    "a weight": lambda: tf.keras.Sequential([L.Input([4]), Kept(), L.Dense(3)]),
    "random predictions": lambda: tf.keras.Sequential(
        [L.Input([4]), Shaken(), L.Dense(3)]
    ),
    "steps": lambda: tf.keras.Sequential([L.Input([4]), Steps(), L.Dense(3)]),
    "half precision": lambda: with_features(fixed(), "mixed_float16"),
    "dropout": lambda: tf.keras.Sequential([L.Input([4]), L.Dropout(0.5), L.Dense(3)]),
    "TFF": lambda: by_tff(fixed()),
}


@pytest.mark.parametrize("name", TAKEN)
def test_the_same_function_is_taken(name):
    # The trained model begins with its own weights.
    first, other = (functional_model(TAKEN[name], seed) for seed in (1, 2))
    assert (first.initial_weights[-2] != other.initial_weights[-2]).any()
