"""Client work and functional models on their own."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import clients, models
from tfl_research.clients import client_work
from tfl_research.tasks import objectives


def dense_builder():
    return tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer((4,)),
            tf.keras.layers.Dense(5, activation="relu"),
            tf.keras.layers.Dropout(0.5),
            tf.keras.layers.Dense(3),
        ]
    )


SPEC = tf.TensorSpec((None, 4), tf.float32)


@pytest.fixture(scope="module")
def model():
    return models.from_keras(dense_builder, SPEC, seed=3)


def weights_of(model):
    return [tf.constant(w) for w in model.initial_weights]


def batches(steps, batch=4, real_steps=None, seed=0):
    rng = np.random.default_rng(seed)
    mask = np.ones((steps, batch), bool)
    if real_steps is not None:
        mask[real_steps:] = False
    return {
        "x": tf.constant(rng.normal(size=(steps, batch, 4)).astype(np.float32)),
        "y": tf.constant(rng.integers(0, 3, (steps, batch)).astype(np.int32)),
        "mask": tf.constant(mask),
        "num_steps": tf.constant(steps),
        "num_examples": tf.constant(int(mask.sum())),
        "seed": tf.constant([1, 2]),
    }


class TestFunctionalModel:
    def test_agrees_with_keras(self, model):
        keras = models.initialized(dense_builder, 3)
        x = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
        ours = model.predict(weights_of(model), (), tf.constant(x))
        np.testing.assert_allclose(ours, keras(x), atol=1e-6)

    def test_a_model_that_lists_its_weights_in_another_order_than_it_made_them(self):
        def reversed_build():
            late = tf.keras.layers.Dense(3)
            late.build((None, 4))
            early = tf.keras.layers.Dense(4)
            return tf.keras.Sequential([tf.keras.layers.InputLayer((4,)), early, late])

        x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
        keras = models.initialized(reversed_build, 3)
        ours = models.from_keras(reversed_build, SPEC, seed=3)
        for a, b in zip(ours.initial_weights, keras.trainable_weights):
            np.testing.assert_array_equal(a, b)
        logits = ours.predict(weights_of(ours), (), tf.constant(x))
        np.testing.assert_allclose(logits, keras(x), atol=1e-6)

    def test_dropout_is_a_function_of_its_seed(self, model):
        x = tf.ones((8, 4))

        def out(seed):
            forward = model.forward(weights_of(model), (), x, True, tf.constant(seed))
            return forward.predictions.numpy()

        np.testing.assert_array_equal(out([1, 2]), out([1, 2]))
        assert np.abs(out([1, 2]) - out([1, 3])).max() > 0
        assert model.is_random

    def test_initial_weights_are_a_function_of_the_seed(self):
        first = models.from_keras(dense_builder, SPEC, seed=5).initial_weights
        again = models.from_keras(dense_builder, SPEC, seed=5).initial_weights
        other = models.from_keras(dense_builder, SPEC, seed=6).initial_weights
        np.testing.assert_array_equal(first[0], again[0])
        assert np.abs(first[0] - other[0]).max() > 0

    def test_numpys_generator_is_left_alone(self):
        np.random.seed(11)
        expected = np.random.random()
        np.random.seed(11)
        models.from_keras(dense_builder, SPEC, seed=5)
        assert np.random.random() == expected

    def test_running_statistics_are_refused(self):
        def build():
            return tf.keras.Sequential(
                [tf.keras.layers.InputLayer((4,)), tf.keras.layers.BatchNormalization()]
            )

        with pytest.raises(ValueError, match="use GroupNormalization"):
            models.from_keras(build, SPEC)

    def test_a_model_without_an_input_shape_is_built_for_the_inputs(self):
        model = models.from_keras(
            lambda: tf.keras.Sequential([tf.keras.layers.Dense(2)]), SPEC
        )
        assert [w.shape for w in model.initial_weights] == [(4, 2), (2,)]


class TestLocalTraining:
    @pytest.fixture(scope="class")
    def momentum_work(self, model):
        work = clients.local_training(
            optimizer=tff.learning.optimizers.build_sgdm(0.1, momentum=0.9)
        )
        return work.build(model, objectives.multiclass())

    def test_masked_steps_change_nothing_at_all(self, model, momentum_work):
        """Momentum would move the weights in a step that was not left out."""
        start = weights_of(model)
        padded = batches(6, real_steps=3)
        short = {
            name: value[:3] if name in ("x", "y", "mask") else value
            for name, value in padded.items()
        }
        short["num_steps"] = tf.constant(3)
        full = momentum_work(start, padded, tf.constant(0))
        cut = momentum_work(start, short, tf.constant(0))
        for a, b in zip(full.update, cut.update):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(full.sums["loss"], cut.sums["loss"])
        assert float(full.num_examples) == 12

    def test_masked_examples_change_nothing_even_if_nan(self, model, momentum_work):
        start = weights_of(model)
        clean = batches(1)
        mask = np.array([[True, True, False, False]])
        clean["mask"] = tf.constant(mask)
        dirty = dict(clean)
        x = clean["x"].numpy()
        x[0, 2:] = 100.0
        dirty["x"] = tf.constant(x)
        for a, b in zip(
            momentum_work(start, clean, tf.constant(0)).update,
            momentum_work(start, dirty, tf.constant(0)).update,
        ):
            np.testing.assert_allclose(a, b, atol=1e-7)

    def test_masked_sum_ignores_nan(self):
        values = tf.constant([[1.0, 2.0], [np.nan, np.nan], [3.0, 4.0]])
        kept = clients.masked_sum(values, tf.constant([True, False, True]))
        np.testing.assert_array_equal(kept, [4.0, 6.0])

    @pytest.mark.parametrize("shape", [[3], [3, 2], [3, 2, 2], None])
    def test_masked_sums_of_every_rank(self, shape):
        """Also of a rank that the graph does not know."""
        numbers = np.arange(12.0).reshape(3, 2, 2)
        if shape is not None:
            numbers = numbers.reshape(3, -1)[:, : int(np.prod(shape[1:]))]
            numbers = numbers.reshape(shape)
        numbers[1] = np.nan

        @tf.function(input_signature=[tf.TensorSpec(shape)])
        def found(values):
            mask = tf.constant([True, False, True])
            return client_work.masked_sums({"a": values, "b": -values}, mask)

        sums = found(tf.constant(numbers, tf.float32))
        np.testing.assert_array_equal(sums["a"], numbers[0] + numbers[2])
        np.testing.assert_array_equal(sums["b"], -numbers[0] - numbers[2])

    def test_a_tensor_is_summed_once(self):
        ones = tf.ones([2])
        sums = client_work.masked_sums(
            {"b": ones, "a": ones, "c": 2 * ones}, tf.constant([True, False])
        )
        assert list(sums) == ["b", "a", "c"]
        assert sums["b"] is sums["a"]
        assert [float(value) for value in sums.values()] == [1.0, 1.0, 2.0]

    def test_a_scalar_is_no_value_of_each_example(self):
        with pytest.raises(ValueError, match=r"\[batch, ...\], got a scalar"):
            clients.masked_sum(tf.constant(1.0), tf.constant([True, False]))

    def test_no_steps_is_no_update(self, model, momentum_work):
        nothing = {
            name: value[:0] if name in ("x", "y", "mask") else value
            for name, value in batches(2).items()
        }
        nothing["num_steps"] = tf.constant(0)
        result = momentum_work(weights_of(model), nothing, tf.constant(0))
        assert all(np.all(u == 0) for u in result.update)
        assert float(result.sums["examples"]) == 0

    def test_bad_arguments(self):
        sgd = tff.learning.optimizers.build_sgdm(0.1)
        with pytest.raises(ValueError, match="at least 0, got -1"):
            clients.local_training(optimizer=sgd, proximal_strength=-1)
        with pytest.raises(ValueError, match="positive, got 0"):
            clients.local_training(optimizer=sgd, gradient_clip_norm=0)
