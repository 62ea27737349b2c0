"""Several outputs, and weights of examples and classes, against Keras itself."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from keras_examples import CHANCES, CLASSES, LOGITS, NUMBERS, YES

from tfl_research.tasks import objectives

keras = tf.keras
METRICS = keras.metrics


def test_class_weights_are_those_of_fit():
    loss = keras.losses.BinaryCrossentropy()
    weighted = objectives.from_keras(loss, class_weight={1: 3.0})
    expected = float(loss(YES, CHANCES, sample_weight=1 + 2 * YES[:, 0]))
    found = float(tf.reduce_mean(weighted.example_losses(YES, CHANCES)))
    assert found == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="loss 'mean_squared_error' has no classes"):
        objectives.from_keras("mse", class_weight={1: 2.0})


def two_heads():
    layers = keras.layers
    age, image = layers.Input([2], name="age"), layers.Input([3], name="image")
    both = layers.Concatenate()([age, image])
    return keras.Model(
        {"age": age, "image": image},
        {
            "kind": layers.Dense(3, "softmax", name="kind")(both),
            "size": layers.Dense(1, name="size")(both),
        },
    )


def two_headed_losses():
    return objectives.from_keras(
        {"kind": "sparse_categorical_crossentropy", "size": "mse"},
        {"kind": ["accuracy"], "size": [METRICS.MeanAbsoluteError("mae")]},
        loss_weights={"size": 0.5},
    )


def test_several_outputs_against_keras_evaluate():
    y = {"kind": CLASSES % 3, "size": NUMBERS[:, :1]}
    model = two_heads()
    model.compile(
        loss={"kind": "sparse_categorical_crossentropy", "size": "mse"},
        metrics={"kind": ["accuracy"], "size": [METRICS.MeanAbsoluteError("mae")]},
        loss_weights={"kind": 1.0, "size": 0.5},
    )
    x = {"age": NUMBERS, "image": LOGITS[:, :3]}
    expected = model.evaluate(x, y, verbose=0, return_dict=True)
    objective, predictions = two_headed_losses(), model.predict(x, verbose=0)
    objective.check_examples(y, predictions)
    sums = objective.example_sums(y, predictions)
    totals = {name: np.sum(value, axis=0) for name, value in sums.items()}
    found = {name: float(v) for name, v in objective.finalize(totals).items()}
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5)
    # A list of outputs has the order of the model.
    in_order = objective.example_losses(y, [predictions["kind"], predictions["size"]])
    np.testing.assert_allclose(in_order, sums["loss"], rtol=1e-6)
    with pytest.raises(ValueError, match="the model has no output 'size'"):
        objective.example_losses(y, {"kind": predictions["kind"]})
    with pytest.raises(ValueError, match="needs labels y/size, got y/kind"):
        objective.example_losses({"kind": y["kind"]}, predictions)


WEIGHTS = np.linspace(0.0, 2.0, 40).astype(np.float32)


class Weighted(keras.metrics.Metric):
    """Multiplies values `[batch, 1]` by weights, which Keras gives the same shape."""

    def __init__(self, name="weighted_error", **more):
        super().__init__(name=name, **more)
        self.total = self.add_weight("total", initializer="zeros")

    def update_state(self, y, predictions, sample_weight):
        self.total.assign_add(tf.reduce_sum(tf.abs(y - predictions) * sample_weight))

    def result(self):
        return self.total


def weighted_metrics():
    return {
        "kind": [METRICS.SparseCategoricalAccuracy("weighted")],
        "size": [
            METRICS.RootMeanSquaredError("rmse"),
            METRICS.CosineSimilarity(),
            Weighted(),
        ],
    }


def test_weights_of_examples_and_classes_against_keras_evaluate():
    """Keras multiplies the weight of a class by the weight of an example."""
    y = {"kind": CLASSES % 3, "size": NUMBERS[:, :1]}
    model, factors = two_heads(), np.array([1.0, 3.0, 0.5], np.float32)
    losses = {"kind": "sparse_categorical_crossentropy", "size": "mse"}
    plain = {"kind": ["accuracy"], "size": []}
    model.compile(loss=losses, metrics=plain, weighted_metrics=weighted_metrics())
    x = {"age": NUMBERS, "image": LOGITS[:, :3]}
    weights = {"kind": WEIGHTS * factors[y["kind"]], "size": WEIGHTS}
    expected = model.evaluate(
        x, y, sample_weight=weights, verbose=0, return_dict=True, batch_size=40
    )
    objective = objectives.from_keras(
        losses,
        plain,
        weighted_metrics=weighted_metrics(),
        class_weight={"kind": {1: 3.0, 2: 0.5}},
    )
    predictions = model.predict(x, verbose=0)
    objective.check_examples(y, predictions)
    found = weighted_sums_of(objective, y, predictions, WEIGHTS)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name
    assert abs(found["kind_weighted"] - found["kind_accuracy"]) > 1e-3
    unweighted = weighted_sums_of(objective, y, predictions, None)
    root = np.sqrt(np.mean((predictions["size"] - y["size"]) ** 2))
    assert unweighted["size_rmse"] == pytest.approx(root, rel=1e-5)


def weighted_sums_of(objective, y, predictions, weights):
    added = {}
    for rows in (slice(0, 9), slice(9, 40)):
        examples = {f"y/{name}": array[rows] for name, array in y.items()}
        if weights is not None:
            examples["sample_weight"] = weights[rows]
        part = {name: array[rows] for name, array in predictions.items()}
        for name, value in objective.sums(examples, part).items():
            added[name] = added.get(name, 0) + np.sum(value, axis=0)
    return {name: float(v) for name, v in objective.finalize(added).items()}


def test_weights_that_have_no_meaning_are_refused():
    losses = {"kind": "sparse_categorical_crossentropy", "size": "mse"}
    for options, message in (
        ({"class_weight": {0: 1.0}}, r"give the weights by output, as \{'OUTPUT'"),
        ({"class_weight": {"shape": {0: 1.0}}}, "class_weight of output 'shape', exp"),
        ({"class_weight": {"size": {0: 1.0}}}, "'mean_squared_error' has no classes"),
        ({"weighted_metrics": {"size": [METRICS.AUC()]}}, "'auc' is computed from the"),
        (
            {"metrics": {"size": ["mae"]}, "weighted_metrics": {"size": ["mae"]}},
            "two metrics have the name 'size_mae'",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            objectives.from_keras(losses, **options)
