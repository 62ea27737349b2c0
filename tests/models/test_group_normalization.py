"""Group normalisation with operations of our own against Keras' own code."""

import numpy as np
import pytest
import tensorflow as tf
from normalization_checks import (
    assert_as_before_afterwards,
    assert_as_keras,
    assert_left_to_keras,
    assert_operations_can_be_the_callers,
    assert_second_derivatives,
    assert_vectorised,
    both,
    derived,
    forward,
    operations,
    stack,
    weights_of,
)

from tfl_research.models.layers.normalizations import own_normalizations

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
    "vectors": (stack([4], norm(1)), VECTORS),
    # Without a large epsilon, gradients of two numbers in a group cancel.
    "pairs": (stack([4], norm(epsilon=1.0)), VECTORS),
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
    assert_as_keras(*CASES[name], 2e-5)


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

    def plain(gamma, beta, x):
        grouped = tf.reshape(x, [2, 6, 2, 2])
        mean = tf.reduce_mean(grouped, (1, 3), keepdims=True)
        variance = tf.reduce_mean((grouped - mean) ** 2, (1, 3), keepdims=True)
        normal = (grouped - mean) / tf.sqrt(variance + 1e-3)
        return tf.reshape(normal, [2, 3, 2, 4]) * gamma + beta

    assert_second_derivatives(plain, model, PLACES, in_graph=in_graph, tolerance=1e-4)


@pytest.mark.parametrize("name", ["vectors", "images", "without_both", "two"])
@pytest.mark.parametrize("own_weights", [False, True])
def test_vectorised(name, own_weights):
    assert_vectorised(*CASES[name], own_weights=own_weights, tolerance=2e-5)


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


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_left_to_keras(name):
    assert_left_to_keras(OTHERS[name](), tf.constant(SIGNALS))


def test_masks_are_left_to_keras():
    mask = tf.constant(RNG.integers(0, 2, SIGNALS.shape), tf.bool)
    assert_left_to_keras(Norm(2), tf.constant(SIGNALS), mask=mask)


def test_a_layer_is_as_before_afterwards():
    assert_as_before_afterwards(Norm(2), SIGNALS)


def test_the_operations_can_be_the_callers():
    assert_operations_can_be_the_callers(*CASES["images"])
