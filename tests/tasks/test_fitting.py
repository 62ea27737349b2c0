"""Heads, labels and token ids are checked where data and model meet."""

from __future__ import annotations

import dataclasses
import re
import warnings

import numpy as np
import pytest
import tensorflow as tf

from tfl_research import data, models, tasks
from tfl_research.errors import UserError
from tfl_research.tasks import objectives

keras = tf.keras
CARD = tasks.Card("t", "client", "y", "made here", "none")
_GENERATOR = np.random.default_rng(0)
X = _GENERATOR.normal(size=(10, 3)).astype(np.float32)
CLASSES = np.arange(10) % 3
YES = np.arange(10) % 2


def head(units, activation=None, shape=(3,)):
    """Builds a model of one layer."""

    def build():
        layers = keras.layers
        return keras.Sequential(
            [layers.Input(shape), layers.Dense(units, activation, name="head")]
        )

    return build


def task(build_model, build_objective, y=CLASSES, x=X, in_memory=True):
    """A task of two clients, "a" with six examples and "b" with four."""
    clients = {"a": {"x": x[:6], "y": y[:6]}, "b": {"x": x[6:], "y": y[6:]}}
    held = data.ClientData.from_arrays(clients)
    held = dataclasses.replace(held, in_memory=in_memory)
    return tasks.Task("t", CARD, held, held, None, build_model, build_objective)


def by_keras(loss, *metrics):
    return lambda: objectives.from_keras(loss, metrics)


SPARSE = "sparse_categorical_crossentropy"
SPARSE_LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize(
    ("model", "objective", "y", "message"),
    [
        (head(3, "softmax"), objectives.multiclass, CLASSES, "(a softmax), but the lo"),
        (head(3, "softmax"), by_keras(SPARSE_LOGITS), CLASSES, "(a softmax), but the"),
        (head(3, "sigmoid"), objectives.multiclass, CLASSES, "(a sigmoid), but the l"),
        (head(1, "sigmoid"), objectives.binary, YES, "(a sigmoid), but the loss tak"),
        (head(3), by_keras(SPARSE), CLASSES, "give the last layer activation='softma"),
        (head(1), by_keras("bce"), YES, "give the last layer activation='sigmoid'"),
        (head(2), objectives.binary, YES, "the model has 2 outputs, but a binary loss"),
        (head(1), objectives.multiclass, YES, "the model has 1 output, but a loss of"),
        (head(2), objectives.regression, YES, "labels of an example have shape [], th"),
        (head(3), objectives.multiclass, np.eye(3)[CLASSES], "the labels are one-hot"),
        (
            head(3),
            by_keras("categorical_crossentropy"),
            CLASSES,
            "expects one-hot label",
        ),
        (head(2), objectives.multiclass, CLASSES, "client 'a', y row 2: label 2, expe"),
        (head(3), objectives.multiclass, CLASSES - 1, "client 'a', y row 0: label -1,"),
        (head(3), objectives.multiclass, CLASSES / 2, "client 'a', y row 1: label 0.5"),
        (head(1), objectives.binary, 2 * YES - 1, "label -1, expected 0 or 1; give (y"),
        (head(1, "sigmoid"), by_keras("bce"), 2 * YES - 1, "label -1, expected 0 or 1"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(model, objective, y, message):
    with pytest.raises(UserError) as raised:
        task(model, objective, y).functional_model()
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("model", "objective", "y"),
    [
        (head(3), objectives.multiclass, CLASSES.astype(np.float32)),
        (head(5), objectives.multiclass, CLASSES[:, None].astype(np.uint8)),
        (head(3, "softmax"), by_keras(SPARSE, "accuracy"), CLASSES),
        (head(3, "softmax"), lambda: objectives.multiclass(from_logits=False), CLASSES),
        (head(1, "sigmoid"), by_keras("bce"), np.linspace(0, 1, 10)),
        (head(1), objectives.binary, YES[:, None].astype(bool)),
        # Keras' hinge takes both -1 and 1, and 0 and 1.
        (head(1), by_keras("hinge"), (2 * YES - 1).astype(np.float32)),
        (head(2), objectives.multi_label, np.eye(2)[YES]),
        (head(1), objectives.regression, X[:, 0]),
        (head(1, "sigmoid"), objectives.regression, YES),
    ],
)
def test_what_fits_is_taken(model, objective, y):
    fits = task(model, objective, y)
    fits.functional_model()
    assert len(fits.train.cohort(["a", "b"], seed=0, round_number=1)) == 2


@pytest.mark.parametrize(
    ("x", "y", "name"),
    [
        (X[:, :0], CLASSES, "'x' has rows of shape (0,)"),
        (X.reshape(10, 3, 1)[:, :, :0], CLASSES, "'x' has rows of shape (3, 0)"),
        (X, X[:, :0], "'y' has rows of shape (0,)"),
    ],
)
def test_rows_that_hold_nothing_are_refused(x, y, name):
    """oneDNN would end the process without a word of TensorFlow's."""
    message = re.escape(f"the array {name}, which hold nothing; expected at least one")
    with pytest.raises(ValueError, match=message):
        task(head(3), objectives.multiclass, y, x)


def test_a_model_that_fails_on_real_examples_is_refused_in_one_line():
    class Picky(keras.layers.Layer):
        def call(self, x):
            tf.debugging.assert_less(x, -9.0, "x is too large")
            return x

    def build():
        layers = keras.layers
        return keras.Sequential([layers.Input([3]), Picky(), layers.Dense(3)])

    with pytest.raises(UserError) as raised:
        task(build, objectives.multiclass).functional_model()
    line = str(raised.value)
    assert line.startswith(
        "task t: the model fails on the first examples of client 'a'"
    )
    assert "x is too large" in line
    assert "\n" not in line
    assert "File" not in line


def test_a_head_of_a_subclass_and_of_a_function_is_known_by_its_values():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.last = keras.layers.Dense(3)

        def call(self, x):
            return tf.nn.softmax(self.last(x))

    def build():
        model = Own()
        model(tf.zeros([1, 3]))
        return model

    with pytest.raises(UserError, match=r"probabilities \(a softmax\)"):
        task(build, objectives.multiclass).functional_model()


def words(through_another_layer=False, input_dim=9):
    def build():
        layers = keras.layers
        ids = layers.Input([4], dtype="int32")
        moved = layers.Lambda(lambda i: i + 1)(ids) if through_another_layer else ids
        found = layers.Embedding(input_dim, 2, name="words")(moved)
        return keras.Model(ids, layers.Dense(3)(layers.Flatten()(found)))

    return build


def test_tokens_that_an_embedding_lacks_are_refused():
    ids = _GENERATOR.integers(0, 8, (10, 4)).astype(np.int32)
    ids[8, 2] = 9
    message = "client 'b', x row 2: token 9 in Embedding 'words', expected 0 to 8; "
    with pytest.raises(UserError, match=message):
        task(words(), objectives.multiclass, x=ids).functional_model()
    # Only the last token is out of range behind a layer that adds 1.
    with pytest.raises(UserError, match="x row 2: token 10 in Embedding"):
        task(words(True), objectives.multiclass, x=ids).functional_model()
    task(words(True, 11), objectives.multiclass, x=ids).functional_model()
    with pytest.raises(UserError, match="; rows are those of its training split"):
        task(words(), objectives.multiclass, x=ids).functional_model()
    ids[8, 2] = -1
    with pytest.raises(UserError, match="x row 2: token -1 in Embedding 'words'"):
        task(words(), objectives.multiclass, x=ids).functional_model()


def test_tokens_in_ragged_rows_are_checked_too():
    texts = np.array([[b"a b c"], [b"d"]] * 5, object)

    def build(size):
        layers = keras.layers
        words = layers.TextVectorization(ragged=True, vocabulary=["a", "b", "c", "d"])
        return lambda: keras.Sequential(
            [
                layers.Input([1], dtype="string"),
                words,
                layers.Embedding(size, 4, name="words"),
                layers.GlobalAveragePooling1D(),
                layers.Dense(3),
            ]
        )

    task(build(10), objectives.multiclass, x=texts).functional_model()
    with pytest.raises(UserError, match="client 'a', x row 1: token 5 in Embedding"):
        task(build(5), objectives.multiclass, x=texts).functional_model()


def test_other_clients_are_checked_when_they_are_first_in_a_cohort():
    y = CLASSES.copy()
    y[7] = 9
    lazy = task(head(3), objectives.multiclass, y, in_memory=False)
    # Without a model there is nothing to compare with.
    assert len(lazy.train.cohort(["b"], seed=0, round_number=1)) == 1
    lazy.functional_model()
    copy = lazy.with_batching(data.Batching(batch_size=2))
    assert len(copy.train.cohort(["a"], seed=0, round_number=1)) == 1
    with pytest.raises(UserError, match="client 'b', y row 1: label 9, expected a cl"):
        copy.train.cohort(["a", "b"], seed=0, round_number=1)
    with pytest.raises(UserError, match="client 'b', y row 1"):
        lazy.fitting.check("b", lazy.test.load("b"), "eval")
    # Another objective is another meeting.
    other = dataclasses.replace(lazy, build_objective=objectives.regression)
    assert other.fitting is not lazy.fitting


def masked(units):
    """Builds a model whose output has a mask of padded steps."""

    def build():
        layers = keras.layers
        return keras.Sequential(
            [
                layers.Input([4], dtype="int32"),
                layers.Embedding(9, 2, mask_zero=True),
                layers.Dense(units),
            ]
        )

    return build


def test_a_mask_that_keras_would_average_over_is_refused():
    build = masked(9)
    ids = np.ones((10, 4), np.int32)
    with pytest.raises(UserError, match=r"mask of padded steps.*next_token\(pad_id\)"):
        task(build, by_keras(SPARSE_LOGITS), ids, ids).functional_model()
    task(build, objectives.next_token, ids, ids).functional_model()


def test_the_named_objectives_refuse_such_a_mask_too():
    build = masked(1)
    ids, targets = np.ones((10, 4), np.int32), np.ones((10, 4, 1), np.float32)
    for objective in (objectives.regression, objectives.multi_label):
        with pytest.raises(UserError, match="mask of padded steps"):
            task(build, objective, targets, ids).functional_model()


def test_a_class_for_each_step_is_refused_by_the_objective_of_one_class():
    y = np.zeros((10, 5), int)
    x = np.zeros((10, 5, 3), np.float32)
    message = (
        r"expects one class for each example; for a class of each step give objectives"
    )
    with pytest.raises(UserError, match=message):
        task(head(3, shape=(5, 3)), objectives.multiclass, y, x).functional_model()
    task(head(3, shape=(5, 3)), by_keras(SPARSE_LOGITS), y, x).functional_model()


def test_a_first_client_with_one_example_hides_nothing():
    class Largest(keras.metrics.Metric):
        def __init__(self, name="largest", dtype=None):
            super().__init__(name=name)
            self.found = self.add_weight("found", initializer="zeros")

        def update_state(self, y, predictions, sample_weight=None):
            error = tf.abs(tf.cast(y, tf.float32) - predictions)
            self.found.assign(tf.maximum(self.found, tf.reduce_max(error)))

        def result(self):
            return self.found

    def mixed(y, predictions):
        y = tf.cast(y, tf.float32)
        return tf.reduce_mean((y - tf.reduce_mean(y, 0) - predictions) ** 2, axis=-1)

    clients = {
        "a": {"x": X[:1], "y": CLASSES[:1]},
        "b": {"x": X[1:2], "y": CLASSES[1:2]},
        "c": {"x": X[2:], "y": CLASSES[2:]},
    }
    held = data.ClientData.from_arrays(clients)
    for objective, message in (
        (by_keras("mse", Largest()), "metric 'largest' is not a sum over examples"),
        (by_keras(mixed), "depends on the other examples of its batch"),
    ):
        with pytest.raises(UserError, match=message):
            tasks.Task(
                "t", CARD, held, held, None, head(1), objective
            ).functional_model()


def test_losses_that_are_not_of_each_example_are_refused():
    def together(y, predictions):
        return tf.square(y - tf.reduce_mean(predictions))[:, 0]

    def one_number(y, predictions):
        return tf.reduce_mean(tf.square(y - predictions))

    def crossed():
        def losses(y, predictions):
            return tf.square(tf.cast(y, tf.float32) - predictions)

        return objectives.Objective(losses, lambda y, p: {}, dict)

    for objective, message in (
        (by_keras(together), "the loss of an example depends on the other examples"),
        (by_keras(one_number), "loss 'one_number' returns one number for a batch"),
        (crossed, r"losses of 6 examples have shape \[6, 6\], expected \[6\]"),
    ):
        with pytest.raises(UserError, match=message):
            task(head(1), objective, X[:, 0]).functional_model()


def test_a_model_of_the_toolkits_own_type_is_probed_too():
    made = models.from_keras(head(3, "softmax"), tf.TensorSpec([None, 3]))
    fits = task(head(3), objectives.multiclass)
    with pytest.raises(UserError, match=r"probabilities \(a softmax\)"):
        fits.fitting.check_model(fits, made)


def test_labels_without_a_loss_are_named():
    def build():
        x = keras.Input([3])
        heads = {name: keras.layers.Dense(1, name=name)(x) for name in ("k", "r")}
        return keras.Model(x, heads)

    def made(**losses):
        clients = {i: {"x": X, "y/k": YES, "y/r": CLASSES} for i in "ab"}
        held = data.ClientData.from_arrays(clients)
        return tasks.Task("t", CARD, held, held, None, build, by_keras(losses))

    with pytest.warns(UserWarning, match="labels y/r have no loss, so nothing is lear"):
        made(k="mse").functional_model()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        made(k="mse", r="mae").functional_model()
