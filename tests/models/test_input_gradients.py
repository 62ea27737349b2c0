"""Operations without a gradient, before and after the weights that are trained."""

import numpy as np
import pytest
import tensorflow as tf

from tfl_research import models

layers = tf.keras.layers
X = np.random.default_rng(0).uniform(size=(4, 3, 3, 3)).astype(np.float32)


class _Saturated(layers.Layer):
    def call(self, x):
        return tf.image.adjust_saturation(x, 2.0)


def _stack(*before):
    model = tf.keras.Sequential([layers.InputLayer((3, 3, 3)), *before])
    model.add(layers.Flatten())
    model.add(layers.Dense(2))
    return model


def _frozen():
    layer = layers.Conv2D(3, 1)
    layer.trainable = False
    return layer


def _gradients(build):
    """Of the sum of squares, by our function and by Keras' tape."""
    ours = models.from_keras(
        build, tf.TensorSpec([None, 3, 3, 3]), non_trainable="averaged"
    )
    model = build()
    for variable, value in zip(model.trainable_variables, ours.initial_weights):
        variable.assign(value)
    for variable, value in zip(model.non_trainable_variables, ours.initial_state):
        variable.assign(value)
    weights = [tf.constant(w) for w in ours.initial_weights]
    state = [tf.constant(s) for s in ours.initial_state]

    @tf.function
    def gradient(weights, x):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            result = ours.forward(weights, state, x, True, tf.constant([1, 2]))
            loss = tf.reduce_sum(result.predictions**2)
        return tape.gradient(loss, weights)

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(model.trainable_variables)
        loss = tf.reduce_sum(model(X, training=True) ** 2)
    return gradient(weights, tf.constant(X)), tape.gradient(
        loss, model.trainable_weights
    )


@pytest.mark.parametrize(
    "before",
    [
        (),
        (_Saturated,),
        (_frozen, _Saturated),
        (_Saturated, layers.BatchNormalization),
    ],
)
def test_they_are_keras_own(before):
    ours, theirs = _gradients(lambda: _stack(*(make() for make in before)))
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs):
        assert np.abs(other).max() > 0.01
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_an_operation_after_a_trained_weight_is_refused_by_name():
    with pytest.raises(
        ValueError,
        match=r"operation AdjustSaturation in layer 'late' after a trainable",
    ) as refused:
        models.from_keras(
            lambda: _stack(layers.Conv2D(3, 1), _Saturated(name="late")),
            tf.TensorSpec([None, 3, 3, 3]),
        )
    assert len(str(refused.value).splitlines()) == 1


def test_most_models_keep_the_gradient_of_their_inputs():
    ours = models.from_keras(lambda: _stack(), tf.TensorSpec([None, 3, 3, 3]))
    weights = [tf.constant(w) for w in ours.initial_weights]
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        result = ours.forward(weights, [], x, False, tf.constant([1, 2]))
    assert tape.gradient(result.predictions, x) is not None
