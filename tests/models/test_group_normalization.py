"""Group normalisation with operations of our own against Keras' own code."""

import numpy as np
import pytest
import tensorflow as tf
from normalization_checks import (
    SEED,
    assert_equal,
    both,
    derived,
    forward,
    operations,
    stack,
    total,
    weights_of,
)

from tfl_research.models import inlining
from tfl_research.models.normalizations import own_normalizations

L = tf.keras.layers
Norm = L.GroupNormalization
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(2, 3, (5, 4)).astype(np.float32)
SIGNALS = RNG.normal(1, 2, (5, 3, 4)).astype(np.float32)
IMAGES = RNG.normal(2, 1, size=(3, 4, 2, 4)).astype(np.float32)
PLACES = RNG.normal(size=(2, 3, 2, 4)).astype(np.float32)
VOLUMES = RNG.normal(size=(2, 2, 3, 2, 4)).astype(np.float32)


def norm(groups=2, **arguments):
    return lambda: Norm(groups, **arguments)


def used_twice():
    start = tf.keras.Input([3, 4])
    layer = Norm(2)
    return tf.keras.Model(start, layer(L.Dense(4)(layer(start))))


def only_normalization():
    start = tf.keras.Input([3, 2, 4])
    return tf.keras.Model(start, Norm(2)(start))


CASES = {
    "vectors": (stack([4], norm()), VECTORS),
    "signals": (stack([3, 4], norm()), SIGNALS),
    "images": (stack([4, 2, 4], norm()), IMAGES),
    "volumes": (stack([2, 3, 2, 4], norm()), VOLUMES),
    "a_group": (stack([4, 2, 4], norm(1)), IMAGES),
    "each_channel": (stack([4, 2, 4], norm(4)), IMAGES),
    "instances": (stack([4, 2, 4], norm(-1)), IMAGES),
    "last_axis_by_number": (stack([3, 4], norm(axis=2)), SIGNALS),
    "small_epsilon": (stack([3, 4], norm(epsilon=1e-6)), SIGNALS),
    "large_epsilon": (stack([3, 4], norm(epsilon=1.0)), SIGNALS),
    "without_gamma": (stack([3, 4], norm(scale=False)), SIGNALS),
    "without_beta": (stack([3, 4], norm(center=False)), SIGNALS),
    "without_both": (stack([3, 4], norm(scale=False, center=False)), SIGNALS),
    "no_rows": (stack([3, 4], norm()), SIGNALS[:0]),
    "one_row": (stack([3, 4], norm()), SIGNALS[:1]),
    "two": (stack([4, 2, 4], norm(), lambda: L.Dense(6), norm(3)), IMAGES),
    "used_twice": (used_twice, SIGNALS),
    "only_normalization": (only_normalization, PLACES),
    "open_length": (stack([None, 4], norm()), SIGNALS),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_keras(name):
    build, x = CASES[name]
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
    assert_equal(found, expected, 2e-5)


@pytest.mark.parametrize("name", CASES)
def test_our_operations_take_the_place_of_keras(name):
    """All but unknown lengths, which are left to Keras' own code."""
    build, x = CASES[name]
    _, model = both(build, x)
    for training in (False, True):
        nodes = operations(model, x, training)
        named = [n.attr["_gradient_op_type"].s.decode() for n in nodes]
        ours = [each for each in named if each.startswith("TflGroupNormalization")]
        assert bool(ours) == (name != "open_length")


@pytest.mark.parametrize("compiled", [False, True])
def test_a_case_by_hand(compiled):
    """Groups [1, 3] and [2, 2] over one place; the roots of variance + 3 are 2, √3."""
    layer = Norm(2, epsilon=3.0)
    layer.build([None, 4])
    layer.set_weights([np.float32([2, 3, 1, 1]), np.float32([1, -1, 0, 5])])

    @tf.function(jit_compile=compiled, autograph=False)
    def compute(x):
        with own_normalizations([layer]):
            y = layer(x)
        return y, tf.gradients(y, [x], [tf.constant([[1.0, 2.0, 0.0, 3.0]])])[0]

    y, of_x = compute(tf.constant([[1.0, 3.0, 2.0, 2.0]]))
    np.testing.assert_allclose(y, [[0.0, 0.5, 0.0, 5.0]], atol=1e-6)
    half = 1.5 / np.sqrt(3)
    np.testing.assert_allclose(of_x, [[-0.75, 0.75, -half, half]], atol=1e-6)


def test_against_float64():
    """Means far from 0, where sums of squares would cancel."""
    x = (RNG.normal(size=(2, 16, 16, 8)) + 1000.0).astype(np.float32)
    layer = Norm(4)
    layer.build(x.shape)
    with own_normalizations([layer]):
        found = tf.function(layer, autograph=False)(tf.constant(x))
    wide = x.astype(np.float64).reshape(2, 256, 4, 2)
    mean = wide.mean((1, 3), keepdims=True)
    expected = (wide - mean) / np.sqrt(wide.var((1, 3), keepdims=True) + 1e-3)
    np.testing.assert_allclose(found, expected.reshape(x.shape), atol=1e-3)


@pytest.mark.parametrize("in_graph", [False, True])
def test_second_derivatives(in_graph):
    _, model = both(only_normalization, PLACES)
    gamma, beta = model.initial_weights
    directions = [RNG.normal(size=a.shape) for a in (gamma, beta, PLACES)]

    def plain(gamma, beta, x):
        grouped = tf.reshape(x, [2, 6, 2, 2])
        mean = tf.reduce_mean(grouped, (1, 3), keepdims=True)
        variance = tf.reduce_mean((grouped - mean) ** 2, (1, 3), keepdims=True)
        normal = (grouped - mean) / tf.sqrt(variance + 1e-3)
        return tf.reshape(normal, [2, 3, 2, 4]) * gamma + beta

    def ours(gamma, beta, x):
        return forward(model, [gamma, beta], x)

    def product(function, dtype):
        """The Hessian times the directions."""
        arguments = [tf.constant(a, dtype) for a in (gamma, beta, PLACES)]
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
    assert_equal(found, [tf.cast(e, tf.float32) for e in expected], 1e-4)


@pytest.mark.parametrize("name", ["vectors", "images", "without_both", "two"])
@pytest.mark.parametrize("own_weights", [False, True])
def test_vectorised(name, own_weights):
    """Gradients of single examples, and of clients with weights of their own."""
    build, x = CASES[name]
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
        assert_equal([t[index] for t in together], expected, 2e-5)


def test_groups_that_are_not_finite_stay_alone():
    _, model = both(only_normalization, PLACES)
    weights = weights_of(model)
    x, y = PLACES, PLACES.copy()
    y[1, 2, 0, 1] = np.nan

    def of_inputs(x):
        return derived(lambda x: forward(model, weights, x)[..., 2:], [x])[0]

    x, y = tf.constant(x), tf.constant(y)
    found, expected = forward(model, weights, y), forward(model, weights, x)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1, ..., 2:], expected[1, ..., 2:])
    assert np.isnan(found[1, ..., :2]).all()
    np.testing.assert_array_equal(of_inputs(y)[0], of_inputs(x)[0])


def test_examples_do_not_mix():
    _, model = both(*CASES["two"])
    assert not model.mixes_examples
    assert not model.mixes_predictions
    assert not model.drops_padding


class Derived(Norm):
    def call(self, inputs):
        return 2.0 * super().call(inputs)


def with_own_call():
    layer = Norm(2)
    layer.call = lambda inputs: inputs
    return layer


OTHERS = {
    "derived": lambda: Derived(2),
    "own_call": with_own_call,
    "first_axis": norm(3, axis=1),
    "float64": norm(dtype="float64"),
    "float16": norm(dtype="mixed_float16"),
    "bfloat16": norm(dtype="mixed_bfloat16"),
}


def traced_operations(layer, x, **arguments):
    @tf.function(autograph=False)
    def compute(x):
        with own_normalizations([layer]):
            return layer(x, **arguments)

    graph = compute.get_concrete_function(x).graph
    nodes = graph.as_graph_def().node
    return [n for n in nodes if "_gradient_op_type" in n.attr], compute(x)


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_left_to_keras(name):
    layer = OTHERS[name]()
    x = tf.constant(SIGNALS)
    expected = layer(x)
    ours, found = traced_operations(layer, x)
    assert not ours
    assert found.dtype == expected.dtype
    assert_equal(tf.cast(found, tf.float32), tf.cast(expected, tf.float32))


def test_masks_are_left_to_keras():
    layer = Norm(2)
    mask = tf.constant(RNG.integers(0, 2, SIGNALS.shape), tf.bool)
    expected = layer(SIGNALS, mask=mask)
    ours, found = traced_operations(layer, tf.constant(SIGNALS), mask=mask)
    assert not ours
    assert_equal(found, expected)


def test_a_layer_is_as_before_afterwards():
    layer = Norm(2)
    expected = layer(SIGNALS)
    before = set(vars(layer))
    ours, found = traced_operations(layer, tf.constant(SIGNALS))
    assert ours
    assert set(vars(layer)) == before
    assert_equal(found, expected)
    np.testing.assert_array_equal(layer(SIGNALS), expected)
    with pytest.raises(KeyError), own_normalizations([layer]):
        raise KeyError
    assert "call" not in vars(layer)


def test_the_operations_can_be_the_callers():
    """So record-level privacy keeps its products of vectors."""
    build, x = CASES["images"]
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
