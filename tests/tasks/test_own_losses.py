"""The loss that a model of TFF has itself, as a task's objective or beside it."""

import collections
import warnings

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import tasks
from tfl_research.errors import UserError
from tfl_research.tasks import objectives

L = tf.keras.layers
X = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
SPEC = tf.TensorSpec([None, 3], tf.float32)
CLASSES, NUMBERS = np.arange(8) % 2, X.sum(axis=1, keepdims=True) / 3
CROSSED = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(units):
    kernel = tf.keras.initializers.RandomNormal(seed=1)
    return tf.keras.Sequential(
        [L.Input([3]), L.Dense(units, kernel_initializer=kernel)]
    )


def variable_model(loss, units, metrics=()):
    def build():
        return tff.learning.models.from_keras_model(
            network(units),
            loss=loss,
            input_spec=collections.OrderedDict(x=SPEC, y=tf.TensorSpec([None, 1])),
            metrics=[metric() for metric in metrics],
        )

    return build


def functional_model(loss, units):
    spec = SPEC, tf.TensorSpec([None, 1], tf.float32)
    return tff.learning.models.functional_model_from_keras(network(units), loss, spec)


class OneLoss(tff.learning.models.VariableModel):
    """A model of a user's own, which has the loss of a batch alone."""

    def __init__(self):
        self.weight = tf.Variable([[0.5], [-1.0], [2.0]])

    trainable_variables = property(lambda self: [self.weight])
    non_trainable_variables = local_variables = property(lambda self: [])
    input_spec = property(lambda self: (SPEC, tf.TensorSpec([None, 1])))

    def predict_on_batch(self, x, training=True):
        return x @ self.weight

    def forward_pass(self, batch, training=True):
        found = self.predict_on_batch(batch[0])
        loss = tf.reduce_mean((found - batch[1]) ** 2)
        return tff.learning.models.BatchOutput(loss, found, tf.shape(found)[0])

    def report_local_unfinalized_metrics(self):
        return {}

    def metric_finalizers(self):
        return {}

    def reset_metrics(self):
        pass


class Penalised(OneLoss):
    """With a penalty that is 0 for the first weights."""

    in_training_alone = False

    def __init__(self):
        self.weight = tf.Variable(tf.zeros([3, 1]))

    def forward_pass(self, batch, training=True):
        plain = super().forward_pass(batch)
        counts = training or not self.in_training_alone
        return plain._replace(loss=plain.loss + counts * tf.nn.l2_loss(self.weight))


class PenalisedInTraining(Penalised):
    in_training_alone = True


def task_of(model, y, **options):
    clients = {"a": {"x": X, "y": y}, "b": {"x": X[:3], "y": y[:3]}}
    return tasks.from_arrays(clients, model=model, test=0, **options)


@pytest.mark.parametrize("kind", [variable_model, functional_model])
def test_the_models_own_loss_is_an_objective(kind):
    huber = tf.keras.losses.Huber(0.3)
    made = kind(huber, 1)
    model = (
        made
        if kind is functional_model
        else kind(huber, 1, [lambda: tf.keras.metrics.MeanAbsoluteError("mae")])
    )
    task = task_of(model, NUMBERS, objective="model")
    functional, objective = task.functional_model(), task.build_objective()
    predictions = functional.predict(functional.initial_weights, (), X)
    assert predictions.shape == (8, 1)
    expected = float(huber(NUMBERS, predictions))
    found = float(tf.reduce_mean(objective.example_losses(NUMBERS, predictions)))
    assert found == pytest.approx(expected, rel=1e-5)
    names = ["loss"] if kind is functional_model else ["loss", "mae"]
    assert list(objective.metrics) == names
    assert task.selection_metric == "loss"


def test_a_loss_that_agrees_needs_no_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for model in (variable_model(CROSSED, 2), functional_model(CROSSED, 2)):
            task_of(model, CLASSES).functional_model()


def twice(y_true, y_pred):
    return 2 * tf.keras.losses.sparse_categorical_crossentropy(y_true, y_pred, True)


def test_a_loss_that_nobody_named_is_refused_if_the_model_has_another():
    with pytest.raises(UserError, match=r"no objective is given.*objective='model'"):
        task_of(variable_model(twice_loss(), 2), CLASSES).functional_model()
    one_hot = tf.keras.losses.CategoricalCrossentropy(from_logits=True)
    with pytest.raises(UserError, match=r"own loss fails for these labels") as error:
        task_of(variable_model(one_hot, 2), CLASSES).functional_model()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("model", [Penalised, PenalisedInTraining])
def test_a_penalty_that_is_zero_at_first_is_seen(model):
    with pytest.warns(UserWarning, match="the task's objective is used, not the"):
        task_of(model, NUMBERS, objective="regression").functional_model()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        task_of(OneLoss, NUMBERS, objective="regression").functional_model()


def twice_loss():
    class Twice(tf.keras.losses.Loss):
        def call(self, y_true, y_pred):
            return twice(y_true, y_pred)

    return Twice()


@pytest.mark.parametrize(
    "model", [variable_model(tf.keras.losses.Huber(0.1), 1), OneLoss]
)
def test_it_is_said_which_of_two_losses_counts(model):
    other = "regression" if model is not OneLoss else objectives.regression("mae")
    task = task_of(model, NUMBERS, objective=other)
    with pytest.warns(UserWarning, match="the task's objective is used, not the") as w:
        task.functional_model()
    assert "\n" not in str(w[0].message)


def test_a_model_without_losses_of_examples_is_refused():
    for model, match in (
        (OneLoss, "OneLoss has only the loss of a batch"),
        (lambda: network(2), "a Sequential has no loss of its own; give objective="),
    ):
        with pytest.raises(ValueError, match=match):
            task_of(model, NUMBERS, objective="model").build_objective()
