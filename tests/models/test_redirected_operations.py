"""Random operations are redirected only in the thread that traces a model."""

import threading

import numpy as np
import tensorflow as tf

from tfl_research import _tff_compat, models


class Constant:
    """In the place of random numbers."""

    def __init__(self, value):
        self._value = value

    def random_standard_normal(self, shape, dtype, seed=0, seed2=0, name=None):
        return tf.fill(shape, tf.cast(self._value, dtype))


def drawn():
    return tf.random.normal([3]).numpy()


def is_redirected(value):
    return (drawn() == value).all()


def test_threads_that_overlap_have_their_own():
    entered, left = threading.Event(), threading.Event()
    found = {}

    def other():
        with _tff_compat.redirected_random_operations(Constant(2)):
            entered.set()
            assert left.wait(30)
            found["inside"] = is_redirected(2)
        found["outside"] = is_redirected(2)

    thread = threading.Thread(target=other)
    with _tff_compat.redirected_random_operations(Constant(1)):
        thread.start()
        assert entered.wait(30)
        assert is_redirected(1)
    # The other thread is still inside.
    assert len(np.unique(drawn())) == 3
    left.set()
    thread.join()
    assert found == {"inside": True, "outside": False}
    assert len(np.unique(drawn())) == 3


def test_the_inner_one_counts_and_ends_with_an_error():
    with _tff_compat.redirected_random_operations(Constant(1)):
        try:
            with _tff_compat.redirected_random_operations(Constant(2)):
                assert is_redirected(2)
                raise KeyError
        except KeyError:
            assert is_redirected(1)
    assert not is_redirected(1)


def test_a_seed_of_the_users_own_gives_the_users_numbers():
    class Jittered(tf.keras.layers.Layer):
        def call(self, x):
            x = tf.image.stateless_random_brightness(x, 0.5, seed=(1, 2))
            seed = tf.random.experimental.stateless_fold_in(tf.constant([3, 4]), 5)
            return x + tf.random.stateless_uniform(tf.shape(x), seed)

    def build():
        layers = tf.keras.layers
        return tf.keras.Sequential(
            [layers.Input([2, 2, 3]), Jittered(), layers.Flatten(), layers.Dense(2)]
        )

    model, other = models.from_keras(build, tf.TensorSpec([None, 2, 2, 3])), build()
    for variable, value in zip(other.trainable_variables, model.initial_weights):
        variable.assign(value)
    x = tf.constant(np.random.default_rng(0).uniform(size=(3, 2, 2, 3)), tf.float32)
    weights = [tf.constant(w) for w in model.initial_weights]
    for training in (True, False):
        found = model.forward(weights, [], x, training, tf.constant([7, 8]))
        np.testing.assert_allclose(
            found.predictions, other(x, training=training), rtol=1e-5, atol=1e-6
        )


def test_a_layer_of_keras_draws_with_our_seed():
    def build():
        layers = tf.keras.layers
        return tf.keras.Sequential(
            [layers.Input([2, 2, 3]), layers.RandomBrightness(0.5), layers.Flatten()]
            + [layers.Dense(2)]
        )

    model = models.from_keras(build, tf.TensorSpec([None, 2, 2, 3]))
    weights = [tf.constant(w) for w in model.initial_weights]
    x = tf.fill([3, 2, 2, 3], 100.0)
    one, again, other = (
        model.forward(weights, [], x, True, tf.constant(seed)).predictions.numpy()
        for seed in ([7, 8], [7, 8], [7, 9])
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
