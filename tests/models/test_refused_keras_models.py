"""Keras models that cannot be honoured as pure functions are refused in one line."""

import numpy as np
import pytest
import tensorflow as tf
from small_models import L, Subclassed, sequential

from tfl_research import models


class Growing(L.Layer):
    def call(self, x):
        self.add_loss(lambda: 1.0)
        return x


SHARED = L.Dense(6, name="shared")
SHARED.build([None, 6])

REFUSED = {
    "empty_table": (
        lambda: sequential(
            L.StringLookup(name="words"),
            L.Embedding(5, 2),
            L.Dense(2),
            shape=(3,),
            dtype=tf.string,
        ),
        "'words' has an empty lookup table; give the layer a vocabulary",
    ),
    "train_step": (
        lambda: type("Own", (Subclassed,), {"train_step": lambda self, data: {}})(),
        "Own.train_step is the model's own way to train",
    ),
    "test_step": (
        lambda: type("Own", (Subclassed,), {"test_step": lambda self, data: {}})(),
        "Own.test_step is the model's own way",
    ),
    "shared_layer": (
        lambda: sequential(SHARED, L.Dense(2)),
        "the weight kernel.* was there before",
    ),
    "loss_function": (
        lambda: sequential(Growing(name="growing"), L.Dense(2)),
        "'growing' gives add_loss a function when it is called",
    ),
    "builder": (
        lambda: sequential(L.Lambda(lambda x: x @ tf.ones([7, 2]), name="wrong")),
        "the model builder fails: Dimensions must be equal, .*6 and 7",
    ),
    "py_function": (
        lambda: sequential(
            L.Dense(3),
            L.Lambda(
                lambda x: tf.ensure_shape(
                    tf.numpy_function(np.sin, [x], tf.float32), [None, 3]
                ),
                name="sine",
            ),
            L.Dense(2),
        ),
        "PyFunc in layer 'sine'",
    ),
    "generator": (
        lambda: sequential(
            L.Lambda(
                lambda x: x + tf.random.get_global_generator().normal([6]), name="own"
            ),
            L.Dense(2),
        ),
        "RngReadAndSkip in layer 'own'",
    ),
    "loop": (
        lambda: sequential(
            L.Lambda(lambda x: tf.map_fn(lambda r: r + tf.random.normal([6]), x)),
            L.Dense(2),
        ),
        "tf.random.normal draws random numbers inside a loop",
    ),
    "changing": (
        lambda: sequential(L.BatchNormalization(name="bn"), L.Dense(2)),
        "bn/moving_mean.*'averaged'.*GroupNormalization",
    ),
    "nothing_to_train": (lambda: sequential(L.Flatten()), "no trainable weights"),
    "no_units": (
        lambda: sequential(L.Dense(0, name="none"), L.Dense(2)),
        r"none/kernel:0 has the shape \[6, 0\], which holds nothing",
    ),
    "no_model": (lambda: L.Dense(2), "returned a Dense"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_cannot_be_honoured_is_refused_in_one_line(name):
    build, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as refusal:
        models.from_keras(build, tf.TensorSpec([None, 6]))
    assert "\n" not in str(refusal.value)


def test_a_refused_model_leaves_the_scope_of_variables_as_it_was():
    build, _ = REFUSED["loop"]
    with pytest.raises(ValueError, match="inside a loop"):
        models.from_keras(build, tf.TensorSpec([None, 6]))
    assert tf.compat.v1.get_variable_scope().caching_device is None


def test_a_model_that_was_there_before_is_refused():
    model = sequential(L.Dense(2))
    with pytest.raises(ValueError, match="same model each time"):
        models.from_keras(lambda: model, tf.TensorSpec([None, 6]))


def test_constraints_are_those_of_the_weights():
    model = models.from_keras(
        lambda: sequential(L.Dense(2, bias_constraint="non_neg")),
        tf.TensorSpec([None, 6]),
    )
    kernel, bias = model.constrain([tf.fill([6, 2], -1.0), tf.constant([-1.0, 2.0])])
    np.testing.assert_array_equal(kernel, np.full([6, 2], -1.0))
    np.testing.assert_array_equal(bias, [0.0, 2.0])
