"""Layer normalisation with operations of our own against Keras' own code."""

import numpy as np
import pytest
import tensorflow as tf
from normalization_checks import (
    assert_as_before_afterwards,
    assert_as_keras,
    assert_equal,
    assert_left_to_keras,
    assert_operations_can_be_the_callers,
    assert_second_derivatives,
    assert_vectorised,
    both,
    derived,
    forward,
    operations,
    stack,
    traced_operations,
    weights_of,
)

from tfl_research import models
from tfl_research.models.execution import inlining
from tfl_research.models.layers.normalizations import own_normalizations

L = tf.keras.layers
Norm = L.LayerNormalization
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(2, 3, (5, 4)).astype(np.float32)
SIGNALS = RNG.normal(1, 2, (5, 3, 4)).astype(np.float32)
IMAGES = RNG.normal(size=(2, 3, 2, 4)).astype(np.float32)


def norm(**arguments):
    return lambda: Norm(**arguments)


def used_twice():
    start = tf.keras.Input([4])
    layer = Norm()
    return tf.keras.Model(start, layer(L.Dense(4)(layer(start))))


def frozen():
    model = stack([4], Norm)()
    model.layers[-1].trainable = False
    return model


def only_normalization():
    start = tf.keras.Input([4])
    return tf.keras.Model(start, Norm()(start))


def masked():
    return stack([3, 4], L.Masking, Norm, lambda: L.SimpleRNN(2))()


CASES = {
    "vectors": (stack([4], Norm), VECTORS),
    "signals": (stack([3, 4], Norm), SIGNALS),
    "images": (stack([3, 2, 4], Norm), IMAGES),
    "open_length": (stack([None, 4], Norm), SIGNALS),
    "last_axis_by_number": (stack([3, 4], norm(axis=[2])), SIGNALS),
    "small_epsilon": (stack([3, 4], norm(epsilon=1e-6)), SIGNALS),
    "large_epsilon": (stack([4], norm(epsilon=1.0)), VECTORS),
    "without_gamma": (stack([3, 4], norm(scale=False)), SIGNALS),
    "without_beta": (stack([4], norm(center=False)), VECTORS),
    "without_both": (stack([4], norm(scale=False, center=False)), VECTORS),
    "one_number": (stack([4], lambda: L.Dense(1), Norm), VECTORS),
    "no_rows": (stack([4], Norm), VECTORS[:0]),
    "one_row": (stack([4], Norm), VECTORS[:1]),
    "two": (stack([3, 4], Norm, lambda: L.Dense(3), Norm), SIGNALS),
    "used_twice": (used_twice, VECTORS),
    "frozen": (frozen, VECTORS),
    "only_normalization": (only_normalization, VECTORS),
    "masked": (masked, SIGNALS),
    "time_distributed": (
        stack([3, 4], lambda: L.TimeDistributed(Norm())),
        SIGNALS,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_keras(name):
    assert_as_keras(*CASES[name])


@pytest.mark.parametrize("name", ["vectors", "signals", "small_epsilon", "two"])
def test_our_operations_take_the_place_of_keras(name):
    build, x = CASES[name]
    _, model = both(build, x)
    for training in (False, True):
        nodes = operations(model, x, training)
        assert not [n for n in nodes if n.op.startswith("FusedBatchNorm")]
        named = [n.attr["_gradient_op_type"].s.decode() for n in nodes]
        assert "TflLayerNormalization_scaled_shifted" in named


@pytest.mark.parametrize("compiled", [False, True])
def test_a_case_by_hand(compiled):
    """Mean 2, variance 1, and the root of the variance plus 3 is 2."""
    layer = Norm(epsilon=3.0)
    layer.build([None, 2])
    layer.set_weights([np.float32([2, 3]), np.float32([1, -1])])

    @tf.function(jit_compile=compiled, autograph=False)
    def compute(x):
        with own_normalizations([layer]):
            y = layer(x)
        return y, tf.gradients(y, [x], [tf.constant([[1.0, 2.0]])])[0]

    y, of_x = compute(tf.constant([[1.0, 3.0]]))
    np.testing.assert_allclose(y, [[0.0, 0.5]], atol=1e-6)
    np.testing.assert_allclose(of_x, [[-0.75, 0.75]], atol=1e-6)

    model = models.from_keras(
        lambda: tf.keras.Sequential([L.InputLayer((2,)), Norm(epsilon=3.0)]),
        tf.TensorSpec([None, 2]),
    )
    weights = [tf.constant([2.0, 3.0]), tf.constant([1.0, -1.0])]
    with tf.GradientTape() as tape:
        tape.watch(weights)
        y = forward(model, weights, tf.constant([[1.0, 3.0]]))
    gamma, beta = tape.gradient(y, weights, tf.constant([[1.0, 2.0]]))
    np.testing.assert_allclose(gamma, [-0.5, 1.0], atol=1e-6)
    np.testing.assert_allclose(beta, [1.0, 2.0], atol=1e-6)


@pytest.mark.parametrize("in_graph", [False, True])
def test_second_derivatives(in_graph):
    """Against plain operations: `tf.nn.moments` of Keras' stops a gradient."""
    _, model = both(only_normalization, VECTORS)

    def plain(gamma, beta, x):
        mean = tf.reduce_mean(x, -1, keepdims=True)
        variance = tf.reduce_mean((x - mean) ** 2, -1, keepdims=True)
        return (x - mean) / tf.sqrt(variance + 1e-3) * gamma + beta

    assert_second_derivatives(plain, model, VECTORS, in_graph=in_graph)


@pytest.mark.parametrize("name", ["vectors", "signals", "without_both", "open_length"])
@pytest.mark.parametrize("own_weights", [False, True])
def test_vectorised(name, own_weights):
    assert_vectorised(*CASES[name], own_weights=own_weights)


def test_rows_that_are_not_finite_stay_alone():
    _, model = both(only_normalization, VECTORS)
    weights = weights_of(model)
    x = VECTORS.copy()
    x[1, 2], x[3, 0] = np.nan, np.inf

    def of_inputs(x):
        return derived(lambda x: forward(model, weights, x)[::2], [x])[0]

    x, finite = tf.constant(x), tf.constant(VECTORS)
    found, expected = forward(model, weights, x), forward(model, weights, finite)
    np.testing.assert_array_equal(found[::2], expected[::2])
    assert np.isnan(found[1::2]).all()
    np.testing.assert_array_equal(of_inputs(x)[::2], of_inputs(finite)[::2])
    assert np.isfinite(of_inputs(finite)).all()


def test_examples_do_not_mix():
    _, model = both(*CASES["two"])
    assert not model.mixes_examples
    assert not model.mixes_predictions
    assert not model.drops_padding


class Derived(Norm):
    def call(self, inputs):
        return 2.0 * super().call(inputs)


def with_own_call():
    layer = Norm()
    layer.call = lambda inputs: inputs
    return layer


OTHERS = {
    "derived": Derived,
    "own_call": with_own_call,
    "first_axis": norm(axis=1),
    "two_axes": norm(axis=[1, 2]),
    "float64": norm(dtype="float64"),
    "float16": norm(dtype="mixed_float16"),
    "bfloat16": norm(dtype="mixed_bfloat16"),
    "integers": lambda: Norm(autocast=False),
}


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_left_to_keras(name):
    x = tf.constant(SIGNALS)
    if name == "integers":
        x = tf.cast(x, tf.int32)
    assert_left_to_keras(OTHERS[name](), x)


UNFUSED = {
    "derived": Derived,
    "two_axes": norm(axis=[1, 2]),
    "two_axes_by_number": norm(axis=[-2, -1]),
    "derived_two_axes": lambda: Derived(axis=[1, 2]),
    "without_gamma": norm(axis=[1, 2], scale=False),
    "bfloat16": norm(dtype="mixed_bfloat16"),
}


@pytest.mark.parametrize("name", UNFUSED)
def test_no_layer_uses_the_kernel_that_refuses_several_axes(name):
    """TensorFlow's executor joins that kernel with gamma and beta."""
    keras, model = both(stack([3, 4], UNFUSED[name]), SIGNALS)
    weights = weights_of(model)
    for training in (False, True):
        nodes = operations(model, SIGNALS, training)
        assert not [n for n in nodes if n.op.startswith("FusedBatchNorm")]
    run = tf.function(lambda x: forward(model, weights, x, training=False))
    x = L.Dense(4, weights=keras.layers[1].get_weights())(SIGNALS).numpy()
    axes = (1, 2) if "axes" in name or name == "without_gamma" else (2,)
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    expected = (x - mean) / np.sqrt(variance + 1e-3)
    layer = keras.layers[-1]
    if layer.gamma is not None:
        expected = expected * layer.gamma.numpy()
    expected = expected + layer.beta.numpy()
    expected *= 2 if isinstance(layer, Derived) else 1
    tolerance = 0.05 if name == "bfloat16" else 1e-5
    assert_equal(run(tf.constant(SIGNALS)), expected, tolerance)


def test_a_layer_is_fused_again_afterwards():
    layer = Norm(axis=[1, 2])
    layer(SIGNALS)
    assert layer._fused
    with own_normalizations([layer]):
        assert not layer._fused
    assert layer._fused
    with pytest.raises(KeyError), own_normalizations([layer]):
        raise KeyError
    assert layer._fused


def test_ragged_inputs_are_left_to_keras():
    layer = Norm()
    x = tf.RaggedTensor.from_row_lengths(tf.constant(VECTORS), [2, 0, 3])
    expected = layer(x)
    ours, found = traced_operations(layer, x)
    assert not ours
    assert_equal(found.to_tensor(), expected.to_tensor())


def test_weights_that_are_broadcast_are_left_to_keras():
    layer = Norm()
    layer.build([None, 1])
    ours, found = traced_operations(layer, tf.constant(VECTORS))
    assert not ours
    assert_equal(found, layer(VECTORS))


def test_a_call_over_another_axis_is_left_to_keras():
    layer = Norm()
    layer.build([None, 4])  # Axis 1, also of inputs of rank 3.
    x = tf.constant(RNG.normal(size=(2, 4, 4)), tf.float32)
    ours, _ = traced_operations(layer, x)
    assert not ours


def test_a_layer_is_as_before_afterwards():
    assert_as_before_afterwards(Norm(), VECTORS)


def test_the_operations_can_be_the_callers():
    assert_operations_can_be_the_callers(*CASES["signals"])


def test_a_users_own_gradient_stays_a_call():
    class Reversed(L.Layer):
        def call(self, x):
            return tf.custom_gradient(lambda x: (tf.identity(x), lambda dy: -dy))(x)

    _, model = both(stack([4], Norm, Reversed), VECTORS)
    assert inlining.in_graph(model.forward) is None
