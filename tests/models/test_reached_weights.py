"""Weights inside of custom gradients, and the family of batch normalisation."""

import numpy as np
import pytest
import tensorflow as tf

from tfl_research import models

layers = tf.keras.layers
SPEC = tf.TensorSpec([None, 4])


class _Recomputed(layers.Layer):
    def build(self, shape):
        self.w = self.add_weight("w", (shape[-1], 5))
        self.function = tf.recompute_grad(lambda x: tf.tanh(x @ self.w))

    def call(self, x):
        return self.function(x)


class _Own(layers.Layer):
    def build(self, shape):
        self.w = self.add_weight("w", (shape[-1], 5))

    def call(self, x):
        @tf.custom_gradient
        def product(x):
            w = tf.convert_to_tensor(self.w)

            def gradient(dy, variables=None):
                dw = tf.transpose(x) @ dy
                dx = dy @ tf.transpose(w)
                return (dx, [dw]) if variables else dx

            return x @ w, gradient

        return product(x)


class _Given(layers.Layer):
    """The weight is an argument, as the refusal advises."""

    def build(self, shape):
        self.w = self.add_weight("w", (shape[-1], 5))

    def call(self, x):
        return tf.recompute_grad(lambda x, w: tf.tanh(x @ w))(
            x, tf.convert_to_tensor(self.w)
        )


class _Reversed(layers.Layer):
    def call(self, x):
        return tf.custom_gradient(lambda x: (tf.identity(x), lambda dy: -dy))(x)


def _build(*middle):
    return lambda: tf.keras.Sequential(
        [layers.InputLayer((4,)), *(make() for make in middle), layers.Dense(3)]
    )


@pytest.mark.parametrize("layer", [_Recomputed, _Own])
def test_a_hidden_weight_is_refused_by_name(layer):
    with pytest.raises(
        ValueError, match=r"the weight \S*w:0 is used inside"
    ) as refused:
        models.from_keras(_build(layer), SPEC)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    "middle",
    [
        (_Given,),
        (layers.Dense, _Reversed),
        (lambda: layers.Dense(5, activation="swish"),),
    ],
)
def test_other_custom_gradients_are_keras_own(middle):
    made = [(lambda: layers.Dense(5)) if m is layers.Dense else m for m in middle]
    build = _build(*made)
    ours, model = models.from_keras(build, SPEC), build()
    for variable, value in zip(model.trainable_variables, ours.initial_weights):
        variable.assign(value)
    x = tf.constant(np.random.default_rng(1).normal(size=(3, 4)), tf.float32)
    weights = [tf.constant(w) for w in ours.initial_weights]
    with tf.GradientTape() as tape:
        tape.watch(weights)
        found = ours.forward(weights, [], x, True, tf.constant([1, 2])).predictions
        loss = tf.reduce_sum(found**2)
    with tf.GradientTape() as other:
        expected = tf.reduce_sum(model(x, training=True) ** 2)
    pairs = zip(
        tape.gradient(loss, weights), other.gradient(expected, model.trainable_weights)
    )
    for one, two in pairs:
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "kind",
    [
        layers.BatchNormalization,
        layers.experimental.SyncBatchNormalization,
        tf.compat.v1.keras.layers.BatchNormalization,
    ],
)
def test_frozen_statistics_are_used_in_training(kind):
    model = models.from_keras(_build(kind), SPEC, non_trainable="frozen")
    x = tf.constant([[1.0, 5, -3, 2], [2.0, 9, 1, 4]])
    weights = [tf.constant(w) for w in model.initial_weights]
    state = [tf.constant(s) for s in model.initial_state]
    seed = tf.constant([1, 2])
    one, two = (
        model.forward(weights, state, x, training, seed).predictions
        for training in (True, False)
    )
    np.testing.assert_array_equal(one, two)


def test_metrics_that_layers_add_are_said_not_to_be_measured():
    class Measuring(layers.Layer):
        def call(self, x):
            self.add_metric(tf.reduce_mean(x), name="mean_input")
            return x

    with pytest.warns(
        UserWarning, match="add the metrics mean_input, but these are not"
    ):
        models.from_keras(_build(Measuring), SPEC)
