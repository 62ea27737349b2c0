"""Gradients of models in float16 against NumPy's, where float16 has no such numbers."""

import numpy as np
import pytest
import tensorflow as tf

from tfl_research import clients, models
from tfl_research.clients import loss_scale
from tfl_research.clients.record_privacy import example_gradients
from tfl_research.tasks import objectives

X = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 1.0], [2.0, 2.0]], np.float32)
MASK = np.array([True, True, True, False])


def built(dtype):
    def build():
        layer = tf.keras.layers.Dense(
            1, use_bias=False, kernel_initializer="zeros", dtype=dtype
        )
        return tf.keras.Sequential([tf.keras.Input([2]), layer])

    return models.from_keras(build, tf.TensorSpec([None, 2]))


@pytest.fixture(scope="module")
def half():
    return built("mixed_float16")


def batch_of(error):
    """All predictions are 0, and all labels the error."""
    return {
        "x": tf.constant(X),
        "y": tf.fill([4, 1], error),
        "mask": tf.constant(MASK),
        "model_state": (),
        "seed": tf.constant([1, 2]),
    }


@pytest.fixture(scope="module")
def gradients(half):
    """(error) -> of the mean loss, of each example, and of their sum."""
    assert half.scales_loss
    objective = objectives.regression()
    weights = [tf.constant(w) for w in half.initial_weights]
    loop = clients.LocalSteps(optimizer=None).loop(half, objective)

    @tf.function
    def found(error):
        batch = batch_of(error)
        arguments = half, objective, weights, batch, batch["seed"]
        mean, _ = loop.gradient_and_sums(weights, batch)
        each, _ = example_gradients.example_gradients(*arguments)
        total, _ = example_gradients.summed_gradient(*arguments)
        return mean[0], each[0], total[0]

    return found


# Without a scale, float16 rounds the first two to 0 or to few bits. The scale of 2^15
# is too much for the last two, and 2^7 for the last one.
@pytest.mark.parametrize("error", [1e-7, 1e-6, 1.0, 20.0, 1e3])
def test_small_and_large_gradients_are_those_of_numpy(gradients, error):
    mean, each, total = gradients(tf.constant(error))
    expected = (-2.0 * error * X)[MASK][:, :, None]
    np.testing.assert_allclose(mean, expected.mean(axis=0), rtol=2e-3)
    np.testing.assert_allclose(each[:3], expected, rtol=2e-3)
    np.testing.assert_allclose(total, expected.sum(axis=0), rtol=2e-3)


def test_other_precisions_need_no_scale():
    assert not built("float32").scales_loss
    assert not built("mixed_bfloat16").scales_loss


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_a_sum_of_quotients_by_hand(dtype):
    """The gradient of 6 w² / 4 + w v at w = 2 and v = 3, and of a weight in neither."""
    weights = [tf.constant(value) for value in (2.0, 3.0, 5.0)]
    w, v, _ = weights
    model = built(dtype)

    @tf.function
    def found():
        with loss_scale.tape_of(model) as tape:
            tape.watch(weights)
            terms = [(6 * w * w, tf.constant(4.0)), (w * v, None)]
        return loss_scale.gradient(tape, terms, weights, model)

    np.testing.assert_allclose(found(), [3 * 2 + 3, 2, 0], rtol=1e-6)
