"""A model with normalisation layers against the same model in Keras."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfl_research import models

L = tf.keras.layers
SEED = tf.constant([3, 4])


def stack(shape, *make):
    """A builder of a model with these layers after a dense one, and no head."""

    def build():
        x = start = tf.keras.Input(shape)
        x = L.Dense(4)(x)
        for one in make:
            x = one()(x)
        return tf.keras.Model(start, x)

    return build


def both(build, x):
    """A Keras model and ours, with the same weights away from ones and zeros."""
    keras = build()
    for index, variable in enumerate(keras.variables):
        drawn = np.random.default_rng(index).normal(size=variable.shape)
        variable.assign_add(tf.constant(0.4 * drawn, variable.dtype))
    values = keras.get_weights()

    def again():
        model = build()
        model.set_weights(values)
        return model

    shape = keras.input_shape[1:]
    return keras, models.from_keras(again, tf.TensorSpec([None, *shape], x.dtype))


def total(y):
    """A sum with different factors, so that nothing cancels."""
    place = tf.cast(tf.reshape(tf.range(tf.size(y)), tf.shape(y)), y.dtype)
    return tf.reduce_sum(tf.cos(place) * y + tf.sin(place) * y * y)


def forward(model, weights, x, training=True):
    state = [tf.constant(value) for value in model.initial_state]
    return model.forward(weights, state, x, training, SEED).predictions


def weights_of(model):
    return [tf.constant(w) for w in model.initial_weights]


def derived(function, arguments):
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        loss = total(function(*arguments))
    return tape.gradient(loss, arguments)


def assert_equal(one, other, tolerance=1e-5):
    one, other = tf.nest.flatten(one), tf.nest.flatten(other)
    assert len(one) == len(other)
    for index, (a, b) in enumerate(zip(one, other)):
        size = max(1.0, np.abs(b).max(initial=0))
        np.testing.assert_allclose(
            a, b, rtol=tolerance, atol=tolerance * size, err_msg=f"number {index}"
        )


def operations(model, x, training=True):
    weights = weights_of(model)
    traced = tf.function(lambda x: forward(model, weights, x, training))
    graph = traced.get_concrete_function(tf.TensorSpec([None, *x.shape[1:]]))
    definition = graph.graph.as_graph_def()
    nodes = [*definition.node]
    for function in definition.library.function:
        nodes += function.node_def
    return nodes
