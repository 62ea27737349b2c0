"""Losses and metrics against NumPy by hand and scikit-learn."""

from __future__ import annotations

import collections
import math

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

from tfl_research.tasks import objectives
from tfl_research.tasks.objectives.regression import r2 as r2_of

NAN = math.nan


def _metrics(objective, y, logits):
    sums = objective.example_sums(tf.constant(y), tf.constant(logits, tf.float32))
    return objective.finalize(
        collections.OrderedDict((n, tf.reduce_sum(s, axis=0)) for n, s in sums.items())
    )


def _of_examples(objective, name, y, outputs):
    return objective.metrics[name].of_examples(y, np.asarray(outputs))


def _softmax_losses(y, logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_shares = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(log_shares, y[..., np.newaxis], axis=-1)[..., 0]


def test_multiclass_by_hand():
    # Two equal logits of two classes: log 2. Logits (0, log 3): -log(3/4).
    y = np.array([0, 1], np.int32)
    logits = np.array([[5.0, 5.0], [0.0, math.log(3)]])
    losses = objectives.multiclass().example_losses(y, tf.constant(logits, tf.float32))
    np.testing.assert_allclose(losses, [math.log(2), math.log(4 / 3)], rtol=1e-6)
    metrics = _metrics(objectives.multiclass(), y, logits)
    assert float(metrics["loss"]) == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    # A tie goes to the first class, as everywhere else in TensorFlow.
    assert float(metrics["accuracy"]) == 1.0
    assert float(_metrics(objectives.multiclass(), 1 - y, logits)["accuracy"]) == 0.0


def test_multiclass_against_numpy():
    generator = np.random.default_rng(0)
    y = generator.integers(0, 5, 40).astype(np.int32)
    logits = generator.normal(size=(40, 5)) * 4
    metrics = _metrics(objectives.multiclass(), y, logits)
    assert float(metrics["loss"]) == pytest.approx(
        _softmax_losses(y, logits).mean(), rel=1e-5
    )
    assert float(metrics["accuracy"]) == pytest.approx(
        sklearn.metrics.accuracy_score(y, logits.argmax(axis=1))
    )


def test_next_token_by_hand():
    # Sequences of two tokens and one, then padding (0); three ids.
    y = np.array([[1, 2, 0], [2, 0, 0], [0, 0, 0]], np.int32)
    logits = np.zeros((3, 3, 3))
    logits[0, 0] = [0.0, 3.0, 0.0]  # right
    logits[0, 1] = [4.0, 0.0, 0.0]  # wrong: says padding
    logits[1, 0] = [0.0, 0.0, 2.0]  # right
    logits[1, 1] = [9.0, 0.0, 0.0]  # padding, does not count
    token_losses = _softmax_losses(y, logits)
    losses = objectives.next_token().example_losses(
        tf.constant(y), tf.constant(logits, tf.float32)
    )
    expected = [token_losses[0, :2].mean(), token_losses[1, 0], 0.0]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    metrics = _metrics(objectives.next_token(), y, logits)
    assert float(metrics["accuracy"]) == pytest.approx(2 / 3)
    assert float(metrics["loss"]) == pytest.approx(np.sum(expected) / 3, rel=1e-5)


def test_next_token_with_another_padding():
    y = np.array([[0, 7]], np.int32)
    logits = np.zeros((1, 2, 8))
    metrics = _metrics(objectives.next_token(pad_id=7), y, logits)
    assert float(metrics["loss"]) == pytest.approx(math.log(8))
    assert float(metrics["accuracy"]) == 1.0


def test_binary_by_hand():
    y = np.array([1, 0, 1], np.int32)
    logits = np.array([[0.0], [math.log(3)], [2.0]])
    losses = objectives.binary().example_losses(
        tf.constant(y), tf.constant(logits, tf.float32)
    )
    # sigmoid(0) = 1/2; sigmoid(log 3) = 3/4, so class 0 costs log 4.
    expected = [math.log(2), math.log(4), math.log1p(math.exp(-2))]
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    metrics = _metrics(objectives.binary(), y, logits)
    # A logit of 0 is class 0: only the last is right.
    assert float(metrics["accuracy"]) == pytest.approx(1 / 3)
    # Of the two pairs (positive, negative) one is in order.
    assert _of_examples(objectives.binary(), "auc", y, logits) == pytest.approx(0.5)
    # In the order of the scores: positive, negative, positive.
    found = _of_examples(objectives.binary(), "pr_auc", y, logits)
    assert found == pytest.approx((1 + 2 / 3) / 2)


def test_training_has_no_area_under_a_curve():
    """No sum over clients of a usable size would be right for every score."""
    assert list(_metrics(objectives.binary(), np.array([0, 1]), [[0.0], [1.0]])) == [
        "loss",
        "accuracy",
    ]


@pytest.mark.parametrize(
    ("share", "scale", "shift"),
    [(0.3, 1.0, 0.0), (0.0001, 1.0, -9.0), (0.002, 1e-4, 1.0), (0.3, 100.0, 300.0)],
)
def test_areas_against_scikit_learn(share, scale, shift):
    generator = np.random.default_rng(3)
    y = (np.arange(20_000) < max(share * 20_000, 4)).astype(np.int32)
    scores = scale * (generator.normal(size=20_000) + 1.5 * y) + shift
    logits = np.round(scores, 3).astype(np.float32)[:, np.newaxis]
    binary = objectives.binary()
    assert _of_examples(binary, "auc", y, logits) == pytest.approx(
        sklearn.metrics.roc_auc_score(y, logits), abs=1e-9
    )
    assert _of_examples(binary, "pr_auc", y, logits) == pytest.approx(
        sklearn.metrics.average_precision_score(y, logits), abs=1e-9
    )


@pytest.mark.parametrize("y", [[1, 1], [0, 0]])
def test_auc_of_one_class_is_nan(y):
    logits = np.array([[1.0], [2.0]])
    assert math.isnan(_of_examples(objectives.binary(), "auc", np.array(y), logits))
    metrics = _metrics(objectives.binary(), np.array(y, np.int32), logits)
    assert math.isfinite(metrics["loss"])


@pytest.mark.parametrize(
    ("objective", "y_shape", "logits_shape"),
    [
        (objectives.multiclass(), [0], [0, 3]),
        (objectives.next_token(), [0, 4], [0, 4, 3]),
        (objectives.binary(), [0], [0, 1]),
    ],
)
def test_metrics_of_no_examples_are_nan(objective, y_shape, logits_shape):
    metrics = _metrics(objective, np.zeros(y_shape, np.int32), np.zeros(logits_shape))
    assert {"loss", "accuracy"} <= set(metrics)
    assert all(math.isnan(value) for value in metrics.values())


def test_accuracy_of_padding_alone_is_nan():
    metrics = _metrics(
        objectives.next_token(), np.zeros((2, 3), np.int32), np.zeros((2, 3, 4))
    )
    assert math.isnan(metrics["accuracy"])
    assert float(metrics["loss"]) == 0.0


@pytest.mark.parametrize(
    ("objective", "y", "outputs", "accuracy"),
    [
        (
            objectives.multiclass(),
            [0, 0, 1],
            [[NAN, NAN], [2.0, 1.0], [NAN, 9.0]],
            1 / 3,
        ),
        (objectives.multiclass(from_logits=False), [0], [[NAN, 0.2]], 0.0),
        (objectives.binary(), [0, 0, 1, 1], [[NAN], [-1.0], [NAN], [1.0]], 0.5),
        (objectives.binary(from_logits=False), [0, 1], [[NAN], [0.7]], 0.5),
        (objectives.multi_label(), [[0, 1], [0, 0]], [[NAN, 1.0], [NAN, NAN]], 0.25),
        # The padding, of label 0, does not count.
        (
            objectives.next_token(),
            [[1, 2, 0]],
            [[[0, 1, NAN], [0, 1, 2], [NAN] * 3]],
            0.5,
        ),
    ],
)
def test_a_prediction_that_is_not_a_number_is_never_right(
    objective, y, outputs, accuracy
):
    """The argmax of NaN is class 0, and a NaN is below every threshold."""
    metrics = _metrics(objective, np.array(y, np.int32), np.array(outputs, np.float32))
    assert float(metrics["accuracy"]) == pytest.approx(accuracy)
    assert math.isnan(metrics["loss"])


@pytest.mark.parametrize("name", ["multiclass", "next_token", "binary"])
def test_sums_add_up_over_any_grouping(name):
    generator = np.random.default_rng(1)
    shape = {"multiclass": ([30], [30, 4]), "binary": ([30], [30, 1])}
    y_shape, logits_shape = shape.get(name, ([30, 5], [30, 5, 4]))
    y = generator.integers(0, 2 if name == "binary" else 4, y_shape).astype(np.int32)
    logits = generator.normal(size=logits_shape).astype(np.float32)
    objective = getattr(objectives, name)()
    whole = _metrics(objective, y, logits)
    parts = [
        {
            sum_name: np.sum(value, axis=0)
            for sum_name, value in objective.example_sums(
                tf.constant(y[part]), tf.constant(logits[part])
            ).items()
        }
        for part in (slice(0, 7), slice(7, 7), slice(7, 30))
    ]
    added = {name: sum(part[name] for part in parts) for name in parts[0]}
    for metric, value in objective.finalize(added).items():
        assert float(value) == pytest.approx(float(whole[metric]), rel=1e-5)


@pytest.mark.parametrize("name", ["multiclass", "next_token", "binary"])
def test_losses_have_finite_gradients_at_extreme_logits(name):
    logits = tf.constant([[[1e4], [-1e4]], [[-1e4], [1e4]]])
    objective = getattr(objectives, name)()
    y = tf.constant([[1, 0], [0, 1]])
    if name == "next_token":
        logits = tf.tile(logits, [1, 1, 2])
    else:
        logits, y = logits[:, :, 0], y[:, 0]
    if name == "binary":
        logits = logits[:, :1]
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = tf.reduce_mean(objective.example_losses(y, logits))
    assert np.isfinite(loss)
    assert np.isfinite(tape.gradient(loss, logits)).all()


def test_regression_by_hand():
    y = np.array([1.0, 2.0, 4.0], np.float32)
    predictions = np.array([[1.5], [2.0], [1.0]], np.float32)
    regression = objectives.regression()
    losses = regression.example_losses(y, predictions)
    assert losses.numpy().tolist() == [0.25, 0.0, 9.0]
    metrics = _metrics(regression, y, predictions)
    assert float(metrics["loss"]) == pytest.approx(9.25 / 3)
    assert float(metrics["mean_absolute_error"]) == pytest.approx(3.5 / 3)
    assert float(metrics["rmse"]) == pytest.approx(math.sqrt(9.25 / 3))
    # The labels' mean is 7/3, their squared distances 16/9, 1/9 and 25/9.
    assert np.isnan(r2_of(np.zeros([0]), np.zeros([0, 1])))
    r2 = _of_examples(regression, "r2", y, predictions)
    assert r2 == pytest.approx(1 - 9.25 / (42 / 9))


def test_absolute_and_huber_losses_by_hand():
    y = np.array([[1.0], [2.0], [4.0]])
    predictions = np.array([[1.5], [2.0], [1.0]], np.float32)
    mae = objectives.regression("mae").example_losses(y, predictions)
    assert mae.numpy().tolist() == [0.5, 0.0, 3.0]
    huber = objectives.regression("huber", delta=2.0)
    # Beyond 2: 2 * (3 - 1).
    assert huber.example_losses(y, predictions).numpy().tolist() == [0.125, 0.0, 4.0]
    with pytest.raises(
        ValueError, match="loss must be one of mse, mae, huber, got 'l'"
    ):
        objectives.regression("l")
    with pytest.raises(ValueError, match="delta must be above 0, got 0"):
        objectives.regression("huber", delta=0)


def test_r2_of_large_labels_against_scikit_learn():
    generator = np.random.default_rng(0)
    y = 1e6 + generator.normal(size=500)
    predictions = (y + 0.3 * generator.normal(size=500)).astype(np.float64)
    found = _of_examples(objectives.regression(), "r2", y, predictions)
    assert found == pytest.approx(sklearn.metrics.r2_score(y, predictions), abs=1e-9)
    assert math.isnan(
        _of_examples(objectives.regression(), "r2", y[:1], predictions[:1])
    )


def test_regression_of_several_outputs_is_their_mean():
    y = np.array([[1.0, 2.0], [0.0, 0.0]], np.float32)
    predictions = np.array([[3.0, 2.0], [1.0, -3.0]], np.float32)
    losses = objectives.regression().example_losses(y, predictions)
    assert losses.numpy().tolist() == [2.0, 5.0]
    nothing = _metrics(objectives.regression(), y[:0], predictions[:0])
    assert math.isnan(nothing["loss"])
    assert math.isnan(nothing["mean_absolute_error"])


@pytest.mark.parametrize("name", ["multiclass", "binary", "next_token", "multi_label"])
def test_probabilities_give_the_losses_of_their_logits(name):
    generator = np.random.default_rng(2)
    shape = {"multiclass": (9, 4), "binary": (9, 1), "multi_label": (9, 3)}
    logits = generator.normal(size=shape.get(name, (9, 5, 4))).astype(np.float32)
    labels = {"multiclass": (4, [9]), "binary": (2, [9]), "multi_label": (2, [9, 3])}
    y = generator.integers(0, *labels.get(name, (4, [9, 5]))).astype(np.int32)
    is_softmax = name in ("multiclass", "next_token")
    shares = (tf.nn.softmax if is_softmax else tf.sigmoid)(logits)
    build = getattr(objectives, name)
    given = _metrics(build(), y, logits)
    found = _metrics(build(from_logits=False), y, shares)
    for metric, value in given.items():
        assert float(found[metric]) == pytest.approx(float(value), rel=1e-4)


def test_class_weights_against_keras():
    generator = np.random.default_rng(4)
    y = generator.integers(0, 3, 8).astype(np.int32)
    logits = generator.normal(size=(8, 3)).astype(np.float32)
    table = np.array([1.0, 3.0, 0.5], np.float32)
    weighted = objectives.multiclass(class_weight={1: 3.0, 2: 0.5})
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = float(loss(y, logits, sample_weight=table[y]))
    assert float(_metrics(weighted, y, logits)["loss"]) == pytest.approx(expected)
    twice = objectives.binary(class_weight=[1.0, 2.0])
    y, logits = np.array([0, 1]), np.zeros((2, 1), np.float32)
    losses = twice.example_losses(y, logits).numpy()
    np.testing.assert_allclose(losses, [math.log(2), 2 * math.log(2)], rtol=1e-6)
    with pytest.raises(ValueError, match="weight of class 3, expected classes of 0 to"):
        objectives.multiclass(class_weight={3: 1.0}).example_losses(y, np.eye(3)[:2])


def test_several_labels_by_hand():
    y = np.array([[1, 0], [0, 0]], np.uint8)
    logits = np.array([[0.0, 0.0], [-2.0, 1.0]], np.float32)
    metrics = _metrics(objectives.multi_label(), y, logits)
    losses = [math.log(2), (math.log1p(math.exp(-2)) + math.log1p(math.e)) / 2]
    assert float(metrics["loss"]) == pytest.approx(np.mean(losses), rel=1e-6)
    # A logit of 0 is no: one wrong in each row.
    assert float(metrics["accuracy"]) == 0.5
    weighted = objectives.multi_label(positive_weight=[3.0, 1.0])
    found = weighted.example_losses(y, logits).numpy()
    np.testing.assert_allclose(found, [2 * math.log(2), losses[1]], rtol=1e-6)
    # The second label has one class, and so no area.
    assert _of_examples(objectives.multi_label(), "auc", y, logits) == 1.0


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64, bool])
def test_labels_of_any_dtype_and_a_last_axis_of_one(dtype):
    y = np.array([0, 1, 1])
    logits = np.array([[0.3, 1.0], [0.2, 0.1], [-1.0, 2.0]], np.float32)
    for objective, outputs in (
        (objectives.multiclass(), logits),
        (objectives.binary(), logits[:, :1]),
        (objectives.binary(), logits[:, 0]),
    ):
        expected = objective.example_losses(y, outputs)
        for labels in (y.astype(dtype), y.astype(dtype)[:, np.newaxis]):
            found = objective.example_losses(tf.constant(labels), tf.constant(outputs))
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("build", "y_shape", "logits_shape"),
    [
        (objectives.multiclass, (4, 1, 1), (4, 5)),
        (objectives.multiclass, (4,), (2, 2, 5)),
        (objectives.multiclass, (4,), (3, 5)),
        (objectives.next_token, (4, 3), (3, 4, 5)),
        (objectives.next_token, (4, 6), (4, 2, 3, 5)),
    ],
)
def test_labels_of_another_shape_than_the_outputs_fail(build, y_shape, logits_shape):
    """Also where there are as many labels as there are rows of outputs."""
    y = {"y": tf.zeros(y_shape, tf.int32)}
    with pytest.raises(ValueError, match="labels"):
        build().losses(y, tf.zeros(logits_shape))
