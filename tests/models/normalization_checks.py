"""A model with normalisation layers against the same model in Keras."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfl_research import models
from tfl_research.models.execution import inlining
from tfl_research.models.layers.normalizations import own_normalizations

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


def assert_as_keras(build, x, tolerance=1e-5):
    """Values in training and outside of it, and gradients of weights and inputs."""
    keras, model = both(build, x)
    weights = weights_of(model)
    for training in (False, True):
        expected = keras(x, training=training)
        assert_equal(forward(model, weights, x, training), expected)
    with tf.GradientTape() as tape:
        x = tf.constant(x)
        tape.watch(x)
        loss = total(keras(x, training=True))
    expected = tape.gradient(loss, [*keras.trainable_variables, x])
    found = derived(lambda *given: forward(model, given[:-1], given[-1]), [*weights, x])
    assert_equal(found, expected, tolerance)


def assert_second_derivatives(plain, model, x, *, in_graph, tolerance=1e-5):
    """Products of the Hessian, against (gamma, beta, x) -> predictions in float64."""
    given = [*model.initial_weights, x]
    directions = [np.random.default_rng(1).normal(size=a.shape) for a in given]

    def ours(gamma, beta, x):
        return forward(model, [gamma, beta], x)

    def product(function, dtype):
        """The Hessian times the directions."""
        arguments = [tf.constant(a, dtype) for a in given]
        along = [tf.constant(d, dtype) for d in directions]
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            first = derived(function, arguments)
            inner = tf.add_n([tf.reduce_sum(a * b) for a, b in zip(first, along)])
        return tape.gradient(inner, arguments)

    run = tf.function(product) if in_graph else product
    expected = product(plain, tf.float64)
    assert all(np.abs(e).max() > 0.1 for e in expected)
    found = run(ours, tf.float32)
    assert_equal(found, [tf.cast(e, tf.float32) for e in expected], tolerance)


def assert_vectorised(build, x, *, own_weights, tolerance=1e-5):
    """Gradients of single examples, or of clients with weights of their own."""
    _, model = both(build, x)
    weights = weights_of(model)
    count = len(x)
    rows = tf.constant(x)[:, tf.newaxis]
    if own_weights:
        rows = tf.repeat(rows, 2, axis=1)
    stacked = [
        tf.stack([w * (1 + 0.1 * i * own_weights) for i in range(count)])
        for w in weights
    ]

    def of_one(given):
        *own, x = given
        own = own if own_weights else weights
        return derived(lambda *w: forward(model, w, x), own)

    together = tf.function(
        lambda g: tf.vectorized_map(of_one, g, fallback_to_while_loop=False)
    )([*stacked, rows])
    single = tf.function(of_one)
    for index in range(count):
        expected = single([*(s[index] for s in stacked), rows[index]])
        assert_equal([t[index] for t in together], expected, tolerance)


def assert_operations_can_be_the_callers(build, x):
    """So record-level privacy keeps its products of vectors."""
    _, model = both(build, x)
    weights = weights_of(model)
    operations = inlining.in_graph(model.forward)
    assert operations is not None

    @tf.function(autograph=False)
    def compute(x, *weights):
        y = operations(list(weights), (), x, SEED).predictions
        return tf.gradients(total(y), list(weights))

    expected = derived(lambda *w: forward(model, w, x), weights)
    assert_equal(compute(tf.constant(x), *weights), expected)


def traced_operations(layer, x, **arguments):
    """The operations with a gradient of our own in a layer's call, and its value."""

    @tf.function(autograph=False)
    def compute(x):
        with own_normalizations([layer]):
            return layer(x, **arguments)

    graph = compute.get_concrete_function(x).graph
    nodes = graph.as_graph_def().node
    return [n for n in nodes if "_gradient_op_type" in n.attr], compute(x)


def assert_left_to_keras(layer, x, **arguments):
    expected = layer(x, **arguments)
    ours, found = traced_operations(layer, x, **arguments)
    assert not ours
    assert found.dtype == expected.dtype
    assert_equal(tf.cast(found, tf.float32), tf.cast(expected, tf.float32))


def assert_as_before_afterwards(layer, x):
    expected = layer(x)
    before = set(vars(layer))
    ours, found = traced_operations(layer, tf.constant(x))
    assert ours
    assert set(vars(layer)) == before
    assert_equal(found, expected)
    np.testing.assert_array_equal(layer(x), expected)
    with pytest.raises(KeyError), own_normalizations([layer]):
        raise KeyError
    assert "call" not in vars(layer)
