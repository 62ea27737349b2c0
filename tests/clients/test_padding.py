"""What takes the place of padding in minibatches of models with layers of one's own."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import clients, models
from tfl_research.clients.client_work import for_training, minibatch_of, with_examples
from tfl_research.clients.record_privacy.example_gradients import summed_gradient
from tfl_research.tasks import objectives

SPEC = tf.TensorSpec([None, 3])


class Shares(tf.keras.layers.Layer):
    """Divides by a row's sum: rows of zeros have neither values nor gradients."""

    def call(self, inputs):
        return inputs / tf.reduce_sum(inputs, axis=-1, keepdims=True)


class CenterBatch(tf.keras.layers.Layer):
    """Subtracts the mean of the batch."""

    def call(self, inputs):
        return inputs - tf.reduce_mean(inputs, axis=0)


class OverSize(tf.keras.layers.Layer):
    """Divides by the number of examples."""

    def call(self, inputs):
        return inputs / tf.cast(tf.shape(inputs)[0], tf.float32)


class OverCopies(tf.keras.layers.Layer):
    """Divides each example by the number of examples that are equal to it."""

    def call(self, inputs):
        apart = tf.reduce_sum(tf.abs(inputs[:, tf.newaxis] - inputs), axis=-1)
        copies = tf.reduce_sum(tf.cast(apart == 0, tf.float32), axis=1, keepdims=True)
        return inputs / copies


class WeightedShares(Shares):
    """Its weight has no gradient for rows of zeros."""

    def build(self, shape):
        self.factor = self.add_weight(name="factor", shape=shape[-1:])

    def call(self, inputs):
        return super().call(inputs * tf.exp(self.factor))


class SmallPenalty(tf.keras.layers.Layer):
    """A penalty of the activations that is small beside one of weights."""

    def call(self, inputs):
        self.add_loss(1e-6 * tf.reduce_mean(tf.square(inputs)))
        return inputs


@tf.custom_gradient
def with_centred_gradient(x):
    return tf.identity(x), lambda dy: dy - tf.reduce_mean(dy, axis=0)


@tf.custom_gradient
def with_smaller_gradient(x):
    return tf.identity(x), lambda dy: 0.5 * dy


class OwnGradient(tf.keras.layers.Layer):
    """Has the outputs of the identity, and another gradient."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


def model_of(*layers):
    def build():
        inputs = tf.keras.layers.Input(3)
        return tf.keras.Sequential([inputs, *layers, tf.keras.layers.Dense(2)])

    return models.from_keras(build, SPEC)


def residual_model():
    def build():
        inputs = tf.keras.Input([3])
        hidden = inputs + tf.keras.layers.Dense(3)(inputs)
        return tf.keras.Model(inputs, tf.keras.layers.Dense(2)(hidden))

    return models.from_keras(build, SPEC)


def facts(model):
    return model.drops_padding, model.repeats_for_padding


def test_which_models_take_what():
    assert facts(model_of()) == (False, False)
    assert facts(model_of(tf.keras.layers.Dropout(0.5))) == (False, False)
    assert facts(residual_model()) == (False, True)
    assert facts(model_of(Shares())) == (False, True)
    assert facts(model_of(CenterBatch()))[0]
    assert facts(model_of(OverSize()))[0]
    assert facts(model_of(OverCopies()))[0]
    assert facts(model_of(OverCopies(), tf.keras.layers.Dropout(0.5)))[0]
    # Its draws are random; the size of a batch is tried all the same.
    assert facts(model_of(OverSize(), tf.keras.layers.Dropout(0.5)))[0]
    assert facts(model_of(Shares(), tf.keras.layers.Dropout(0.5))) == (False, True)


def test_a_large_penalty_of_weights_hides_no_small_one_of_activations():
    def dense():
        return tf.keras.layers.Dense(3, kernel_regularizer=tf.keras.regularizers.L2(9))

    assert facts(model_of(dense(), SmallPenalty()))[0]
    assert facts(model_of(dense(), Shares())) == (False, True)


def test_a_model_can_mix_examples_in_its_gradients_alone():
    def dense():
        return tf.keras.layers.Dense(3)

    mixing = model_of(dense(), OwnGradient(with_centred_gradient))
    assert mixing.mixes_examples
    assert not mixing.mixes_predictions
    plain = model_of(dense(), OwnGradient(with_smaller_gradient))
    assert facts(plain) == (False, True)


def test_copies_of_the_first_example_take_the_place():
    batch = {
        "x": tf.constant([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0]]),
        "x/text": tf.constant(["a", "b", "", ""]),
        "y": tf.constant([5, 6, 0, 0]),
        "mask": tf.constant([True, True, False, False]),
        "seed": tf.constant([7, 8]),
    }
    found = for_training(model_of(Shares()), batch)
    assert found["x"].numpy().tolist() == [[1, 2], [3, 4], [1, 2], [1, 2]]
    assert found["y"].numpy().tolist() == [5, 6, 5, 5]
    assert found["mask"].numpy().tolist() == [True, True, False, False]
    assert found["seed"].numpy().tolist() == [7, 8]
    assert for_training(model_of(), batch) is batch
    dropped = for_training(model_of(CenterBatch()), batch)
    assert dropped["y"].numpy().tolist() == [5, 6]


@pytest.mark.parametrize("model", [model_of(Shares()), residual_model()])
def test_the_gradient_is_that_of_the_examples(model):
    generator = np.random.default_rng(0)
    x = generator.uniform(1, 2, [4, 3]).astype(np.float32)
    y = np.array([0, 1, 0, 0], np.int32)
    x[2:], y[2:] = 0, 0
    batch = {
        "x": tf.constant(x),
        "y": tf.constant(y),
        "mask": tf.constant([True, True, False, False]),
        "seed": tf.constant([1, 2]),
        "model_state": (),
    }
    loop = clients.LocalSteps(tff.learning.optimizers.build_sgdm(0.1)).loop(
        model, objectives.multiclass()
    )
    weights = [tf.constant(w) for w in model.initial_weights]
    gradient, sums = loop.gradient_and_sums(weights, batch)

    real = {n: v[:2] if n in ("x", "y", "mask") else v for n, v in batch.items()}
    expected, expected_sums = loop.gradient_and_sums(weights, real)
    for found, wanted in zip(gradient, expected):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
        assert np.isfinite(found).all()
    assert float(sums["examples"]) == 2.0
    np.testing.assert_allclose(sums["loss"], expected_sums["loss"], rtol=1e-6)


def steps_of(*masks):
    """Local steps of four rows each; rows without the mask are zeros."""
    generator = np.random.default_rng(0)
    mask = np.array(masks)
    x = generator.uniform(1, 2, [*mask.shape, 3]).astype(np.float32)
    return {
        "x": tf.constant(np.where(mask[..., np.newaxis], x, 0)),
        "y": tf.constant(np.where(mask, np.arange(4) % 2, 0), tf.int32),
        "mask": tf.constant(mask),
        "num_steps": tf.constant(len(masks)),
        "seed": tf.constant([1, 2]),
    }


FULL, PART, NONE = [True] * 4, [True, True, False, False], [False] * 4


@pytest.mark.parametrize("before", [[], [CenterBatch()]])
def test_a_minibatch_of_padding_alone_has_the_gradient_zero(before):
    model, objective = model_of(*before, WeightedShares()), objectives.multiclass()
    assert model.drops_padding == bool(before)
    batch = {n: v[0] for n, v in steps_of(NONE).items() if n in ("x", "y", "mask")}
    weights = [tf.constant(w) for w in model.initial_weights]
    loop = clients.LocalSteps(tff.learning.optimizers.build_sgdm(0.1)).loop(
        model, objective
    )
    seed = tf.constant([1, 2])
    gradient, sums = loop.gradient_and_sums(
        weights, {**batch, "seed": seed, "model_state": ()}
    )
    of_sum, _ = summed_gradient(model, objective, weights, batch, seed)
    for found in (*gradient, *of_sum):
        np.testing.assert_array_equal(found, np.zeros(found.shape))
    assert float(sums["loss"]) == 0.0


def test_minibatches_of_padding_alone_do_not_change_the_mean_gradient():
    """Vectorised clients have as many steps as the one with most of them."""
    model = model_of(WeightedShares())
    loop = clients.LocalSteps(tff.learning.optimizers.build_sgdm(0.1)).loop(
        model, objectives.multiclass()
    )
    weights = [tf.constant(w) for w in model.initial_weights]
    expected, _ = loop.mean_gradient(weights, steps_of(FULL, PART))
    gradient, _ = loop.mean_gradient(weights, steps_of(FULL, PART, NONE, NONE))
    for found, wanted in zip(gradient, expected):
        assert np.isfinite(wanted).all()
        np.testing.assert_array_equal(found, wanted)
    for found in loop.mean_gradient(weights, steps_of(NONE))[0]:
        np.testing.assert_array_equal(found, np.zeros(found.shape))


def test_the_first_example_takes_the_place_of_a_minibatch_of_padding_alone():
    batches, model = steps_of(PART, FULL, NONE), model_of(WeightedShares())
    for step in range(2):
        batch = minibatch_of(batches, tf.constant(step))
        found = with_examples(model, dict(batch), batches)
        for name, value in batch.items():
            np.testing.assert_array_equal(found[name], value)
    found = with_examples(model, minibatch_of(batches, tf.constant(2)), batches)
    np.testing.assert_array_equal(found["x"], np.stack([batches["x"][0, 0]] * 4))
    assert not found["mask"].numpy().any()
    plain = minibatch_of(batches, tf.constant(2))
    assert with_examples(model_of(), dict(plain), batches)["x"] is plain["x"]


def test_a_client_without_steps():
    model = model_of(WeightedShares())
    loop = clients.LocalSteps(tff.learning.optimizers.build_sgdm(0.1)).loop(
        model, objectives.multiclass()
    )
    weights = [tf.constant(w) for w in model.initial_weights]
    batches = {
        name: value[:0] if name in ("x", "y", "mask") else value
        for name, value in steps_of(NONE).items()
    }
    batches["num_steps"] = tf.constant(0)
    run = tf.function(lambda: loop.run(weights, batches, tf.constant(0)))()
    for found, wanted in zip(run.weights, weights):
        np.testing.assert_array_equal(found, wanted)
