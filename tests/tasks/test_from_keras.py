"""Losses and metrics of Keras against Keras itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
from keras_examples import (
    CHANCES,
    CLASSES,
    GUESSES,
    LOGITS,
    NUMBERS,
    ONE_HOT,
    SHARES,
    YES,
)

from tfl_research import data, processes, runtime, tasks
from tfl_research.program import Evaluator
from tfl_research.tasks import objectives
from tfl_research.tasks.metrics import higher_is_better
from tfl_research.tasks.named_objectives import named

keras = tf.keras


def found_metrics(objective, y, predictions, parts=((0, 40),)):
    """The metrics of sums over parts of the examples."""
    added = {}
    for start, end in parts:
        sums = objective.example_sums(
            tf.constant(y[start:end]), tf.constant(predictions[start:end])
        )
        for name, value in sums.items():
            added[name] = added.get(name, 0) + np.sum(value, axis=0)
    return {name: float(v) for name, v in objective.finalize(added).items()}


class OwnError(keras.metrics.Metric):
    """A sum that a user defines; not a mean, so that its variables are compared."""

    def __init__(self, name="my_error", factor=1.0, **options):
        super().__init__(name=name, **options)
        self.factor = factor
        self.total = self.add_weight(name="total", initializer="zeros")
        self.count = self.add_weight(name="count", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign_add(self.factor * tf.reduce_sum(tf.abs(y_true - y_pred)))
        self.count.assign(self.count + tf.cast(tf.shape(y_true)[0], tf.float32))

    def result(self):
        return self.total / self.count

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Largest(OwnError):
    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign(tf.maximum(self.total, tf.reduce_max(y_pred)))
        self.count.assign(1.0)


METRICS = keras.metrics

TABLE = [
    ("mse", NUMBERS, GUESSES, lambda: [OwnError(factor=3.0)]),
    (
        keras.losses.Huber(0.3),
        NUMBERS,
        GUESSES,
        lambda: [METRICS.RootMeanSquaredError(), METRICS.MeanAbsoluteError("mae")],
    ),
    (keras.losses.LogCosh(), NUMBERS, GUESSES, lambda: [METRICS.CosineSimilarity()]),
    (
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        CLASSES,
        LOGITS,
        lambda: [
            METRICS.SparseCategoricalAccuracy(),
            METRICS.SparseTopKCategoricalAccuracy(2),
        ],
    ),
    (
        keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        ONE_HOT,
        SHARES,
        lambda: [METRICS.CategoricalAccuracy(), METRICS.F1Score(average="macro")],
    ),
    (
        keras.losses.BinaryCrossentropy(),
        YES,
        CHANCES,
        lambda: [METRICS.Precision(0.4), METRICS.Recall(), METRICS.FalseNegatives()],
    ),
]


@pytest.mark.parametrize(("loss", "y", "predictions", "metrics"), TABLE)
def test_agrees_with_keras_in_any_grouping(loss, y, predictions, metrics):
    objective = objectives.from_keras(loss, metrics())
    objective.check_examples(y, predictions)
    function = loss if callable(loss) else keras.losses.MeanSquaredError()
    expected = {"loss": float(function(y, predictions))}
    for name, metric in zip(list(objective.metrics)[1:], metrics()):
        assert metric.name.startswith(name)
        metric.update_state(y, predictions)
        expected[name] = float(metric.result())
    parts = ((0, 7), (7, 8), (8, 40))
    for found in (
        found_metrics(objective, y, predictions),
        found_metrics(objective, y, predictions, parts),
    ):
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=1e-5)
    nothing = found_metrics(objective, y, predictions, ((0, 0),))
    assert all(math.isnan(value) for value in nothing.values())


def test_areas_are_those_of_all_examples():
    objective = objectives.from_keras(
        keras.losses.BinaryCrossentropy(),
        [METRICS.AUC(), METRICS.AUC(curve="PR", name="pr")],
    )
    objective.check_examples(YES, CHANCES)
    assert list(found_metrics(objective, YES, CHANCES)) == ["loss"]
    saturated = np.where(CHANCES > 0.5, 1.0, CHANCES * 1e-9)
    area = objective.of_examples["auc"](YES, saturated)
    assert area == pytest.approx(sklearn.metrics.roc_auc_score(YES, saturated))
    area = objective.of_examples["pr"](YES, saturated)
    expected = sklearn.metrics.average_precision_score(YES, saturated)
    assert area == pytest.approx(expected)


def test_accuracy_means_what_the_loss_says():
    for loss, y, predictions, expected in (
        ("sparse_categorical_crossentropy", CLASSES, SHARES, None),
        ("categorical_crossentropy", ONE_HOT, SHARES, None),
        ("binary_crossentropy", YES, CHANCES, np.mean((CHANCES > 0.5) == YES)),
    ):
        if expected is None:
            expected = np.mean(SHARES.argmax(1) == CLASSES)
        found = found_metrics(objectives.from_keras(loss, "accuracy"), y, predictions)
        assert found["accuracy"] == pytest.approx(expected)
    logits = keras.losses.BinaryCrossentropy(from_logits=True)
    found = found_metrics(objectives.from_keras(logits, ["acc"]), YES, LOGITS[:, :1])
    assert found["acc"] == pytest.approx(np.mean((CHANCES > 0.5) == YES))


def test_accuracy_of_several_outputs_is_keras_own_choice():
    model = keras.Sequential([keras.layers.Input([4]), keras.layers.Activation(None)])
    model.compile(loss="binary_crossentropy", metrics=["accuracy"])
    expected = model.evaluate(SHARES, ONE_HOT, verbose=0)[1]
    objective = objectives.from_keras("binary_crossentropy", ["accuracy"])
    found = found_metrics(objective, ONE_HOT, SHARES)
    assert found["accuracy"] == pytest.approx(expected)
    assert found["accuracy"] == pytest.approx(np.mean(SHARES.argmax(1) == CLASSES))
    assert objective.metrics["accuracy"].higher_is_better is True


def test_directions_of_metrics():
    objective = objectives.from_keras(
        "binary_crossentropy",
        ["accuracy", "mse", METRICS.Precision(), METRICS.AUC(), OwnError()],
        higher_is_better={"my_error": True},
    )
    found = {n: m.higher_is_better for n, m in objective.metrics.items()}
    assert found == {
        "loss": False,
        "accuracy": True,
        "mse": False,
        "precision": True,
        "auc": True,
        "my_error": True,
    }
    assert higher_is_better("eval_client_mean_my_error", objective.metrics)


@pytest.mark.parametrize(
    ("loss", "metrics", "message"),
    [
        ("nonsense", (), "Keras has no loss 'nonsense'"),
        ("mse", ["nonsense"], "Keras has no metric 'nonsense'"),
        ("mse", ["accuracy"], "metric 'accuracy' needs a cross-entropy as the loss"),
        (
            keras.losses.MeanSquaredError(reduction="sum"),
            (),
            "has reduction='sum'; exp",
        ),
        (
            keras.losses.SparseCategoricalCrossentropy(ignore_class=-1),
            (),
            "has ignore_class=-1: it leaves labels out",
        ),
        (keras.losses.MeanSquaredError, (), r"class MeanSquaredError; give Mean.*\(\)"),
        ("mse", ["mae", "mae"], "two metrics have the name 'mae'"),
        ("mse", [lambda y, p: y - p], "the name '<lambda>', expected letters, digits"),
        ("mse", [METRICS.Mean("top 3")], "the name 'top 3', expected letters, digits"),
        ({"a": "mse"}, {"b": ["mae"]}, "metrics of output 'b', expected outputs of a"),
        (3, (), "loss must be a loss of Keras, its name, or a function of labels and"),
    ],
)
def test_what_keras_or_sums_lack_is_refused(loss, metrics, message):
    with pytest.raises(ValueError, match=message):
        objectives.from_keras(loss, metrics)


def test_a_loss_that_leaves_labels_out_is_refused():
    def without_zero(y, predictions):
        return keras.losses.sparse_categorical_crossentropy(
            y, predictions, from_logits=True, ignore_class=0
        )

    objective = objectives.from_keras(without_zero)
    with pytest.raises(ValueError, match="it leaves labels out and takes the mean"):
        objective.example_losses(np.array([0, 1]), LOGITS[:2])


def test_metrics_of_one_kind_are_numbered_from_the_first():
    """Keras counts on in a process, which would name the columns differently."""
    for _ in range(2):
        made = [METRICS.Precision(0.4), METRICS.Recall(), METRICS.Precision(0.6)]
        objective = objectives.from_keras("binary_crossentropy", made)
        assert list(objective.metrics) == ["loss", "precision", "recall", "precision_1"]


def test_metrics_that_are_no_sums_are_refused_by_name():
    for metric, message in (
        (Largest("largest"), "metric 'largest' is not a sum over examples"),
        (METRICS.F1Score(name="f"), "metric 'f' has several values"),
    ):
        objective = objectives.from_keras("mse", [metric])
        with pytest.raises(ValueError, match=message):
            objective.check_examples(NUMBERS, GUESSES)


@pytest.mark.parametrize(
    ("given", "metric"),
    [
        ("mse", "loss"),
        (keras.losses.Huber(), "loss"),
        ({"a": "mse", "b": "mae"}, "loss"),
        (lambda y, p: tf.abs(y - p), "loss"),
        (lambda: objectives.regression("mae"), "loss"),
        (objectives.regression(), "loss"),
        (objectives.regression, "loss"),
        ("binary", "auc"),
        ("multi_label", "accuracy"),
    ],
)
def test_an_objective_is_named_or_given_as_a_loss(given, metric):
    build, selected = named(given)
    assert selected == metric
    assert isinstance(build(), objectives.Objective)


def test_names_that_nobody_has():
    build, _ = named("guessing")
    with pytest.raises(ValueError, match=r"'guessing': Keras has no loss .* one of c"):
        build()
    with pytest.raises(ValueError, match="objective is 3; expected one of classificat"):
        named(3)


def test_a_round_has_the_metrics_of_keras():
    """Its metrics are of the examples before the only step, so of the first model."""
    y = YES[:, 0]
    clients = {
        "a": {"x": LOGITS[:25], "y": y[:25]},
        "b": {"x": LOGITS[25:], "y": y[25:]},
    }
    held = data.ClientData.from_arrays(clients, data.Batching(batch_size=32))

    def build():
        layers = keras.layers
        start = keras.initializers.Constant([[0.5], [-0.2], [0.1], [0.3]])
        return keras.Sequential(
            [
                layers.Input([4]),
                layers.Dense(1, "sigmoid", kernel_initializer=start),
            ]
        )

    factor = tf.constant(2.0)

    def twice_crossed(y_true, y_pred):
        return factor * keras.losses.binary_crossentropy(y_true, y_pred)

    def objective():
        made = ["mse", METRICS.AUC(), OwnError()]
        return objectives.from_keras(twice_crossed, made)

    card = tasks.Card("t", "client", "y", "here", "none")
    task = tasks.Task("t", card, held, held, None, build, objective)
    process = processes.build_fed_avg(task, client_optimizer=_sgd(), max_cohort_size=2)
    engine = runtime.in_process(process, mode=runtime.Mode("folded", "xla"))
    state = engine.initialize()
    cohort = held.cohort(["a", "b"], seed=0, round_number=1)
    _, trained = engine.next(state, cohort)
    model = build()
    model.compile(loss=twice_crossed, metrics=["mse", OwnError()])
    expected = model.evaluate(LOGITS, y, verbose=0, return_dict=True, batch_size=40)
    assert set(trained["train"]) == set(expected)
    for name, value in expected.items():
        assert float(trained["train"][name]) == pytest.approx(value, rel=1e-5)
    evaluation = Evaluator(task).evaluate(state.global_model_weights)
    for name, value in expected.items():
        assert evaluation.overall[name] == pytest.approx(value, rel=1e-5)
    area = sklearn.metrics.roc_auc_score(y, model.predict(LOGITS, verbose=0))
    assert evaluation.overall["auc"] == pytest.approx(area)


def _sgd():
    import tensorflow_federated as tff

    return tff.learning.optimizers.build_sgdm(0.1)


class _WithoutConfiguration(tf.keras.metrics.Mean):
    """Takes no dtype, which its configuration has."""

    def __init__(self, name="gap"):
        super().__init__(name=name)


def test_a_metric_without_a_configuration_is_refused_in_one_line():
    with pytest.raises(
        ValueError, match=r"'gap' cannot be made again.*'dtype'"
    ) as told:
        objectives.from_keras("mean_squared_error", [_WithoutConfiguration()])
    assert "\n" not in str(told.value)
