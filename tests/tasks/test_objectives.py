"""Losses and metrics against NumPy by hand and scikit-learn."""

from __future__ import annotations

import collections
import math

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

from tfl_research.tasks import objectives


def _metrics(objective, y, logits):
    sums = objective.example_sums(tf.constant(y), tf.constant(logits, tf.float32))
    return objective.finalize(
        collections.OrderedDict((n, tf.reduce_sum(s, axis=0)) for n, s in sums.items())
    )


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
    assert float(metrics["auc"]) == pytest.approx(0.5)


def test_auc_counts_ties_half():
    # Positives at bins 10, 20; negatives at 10, 5: pairs 1/2, 1, 1, 1.
    y = np.array([1, 1, 0, 0], np.int32)
    scores = np.array([10.5, 20.5, 10.5, 5.5]) / 200
    logits = np.log(scores / (1 - scores))[:, np.newaxis]
    assert float(_metrics(objectives.binary(), y, logits)["auc"]) == pytest.approx(
        0.875
    )


@pytest.mark.parametrize("seed", range(5))
def test_auc_against_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    y = (generator.random(500) < 0.2).astype(np.int32)
    logits = (generator.normal(size=500) + 1.2 * y - 1.5).astype(np.float32)
    auc = float(_metrics(objectives.binary(), y, logits[:, np.newaxis])["auc"])
    scores = tf.sigmoid(logits).numpy()
    binned = np.clip((scores * np.float32(200)).astype(int), 0, 199)
    assert auc == pytest.approx(sklearn.metrics.roc_auc_score(y, binned), abs=1e-6)
    assert auc == pytest.approx(sklearn.metrics.roc_auc_score(y, scores), abs=5e-3)


def test_auc_of_extreme_scores():
    y = np.array([0, 1], np.int32)
    logits = np.array([[-1e4], [1e4]])
    metrics = _metrics(objectives.binary(), y, logits)
    assert float(metrics["auc"]) == 1.0
    assert float(metrics["loss"]) == 0.0
    assert float(_metrics(objectives.binary(), 1 - y, logits)["auc"]) == 0.0


@pytest.mark.parametrize("y", [[1, 1], [0, 0]])
def test_auc_of_one_class_is_nan(y):
    metrics = _metrics(objectives.binary(), np.array(y, np.int32), [[1.0], [2.0]])
    assert math.isnan(metrics["auc"])
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
    losses = objectives.regression().example_losses(y, predictions)
    assert losses.numpy().tolist() == [0.25, 0.0, 9.0]
    metrics = _metrics(objectives.regression(), y, predictions)
    assert float(metrics["loss"]) == pytest.approx(9.25 / 3)
    assert float(metrics["mean_absolute_error"]) == pytest.approx(3.5 / 3)


def test_regression_of_several_outputs_is_their_mean():
    y = np.array([[1.0, 2.0], [0.0, 0.0]], np.float32)
    predictions = np.array([[3.0, 2.0], [1.0, -3.0]], np.float32)
    losses = objectives.regression().example_losses(y, predictions)
    assert losses.numpy().tolist() == [2.0, 5.0]
    nothing = _metrics(objectives.regression(), y[:0], predictions[:0])
    assert math.isnan(nothing["loss"])
    assert math.isnan(nothing["mean_absolute_error"])
