"""Per-example losses, and metrics as sums that clients can add up."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfl_research.data import structures
from tfl_research.tasks import ranking

# Edges of the histogram that estimates the area under the ROC curve.
_AUC_BINS = 200


@dataclasses.dataclass(frozen=True)
class Objective:
    """The loss that trains a model, and the metrics that measure it.

    Every metric is a function of sums over examples, so that it can be
    aggregated over minibatches, clients and chunks in any grouping.

    Attributes:
      example_losses: (y `[batch, ...]`, logits `[batch, ...]`) -> float32 `[batch]`.
      example_sums: (y, logits) -> `{name: float32 [batch, ...]}`, each example's
        contribution to every sum; must hold "loss" and "examples".
      finalize: `{name: summed over examples}` -> `{metric: scalar}`; metrics of
        no examples are NaN. TensorFlow operations, so that it runs inside a
        computation as well as on NumPy arrays.
      exact: `{metric: (y [n, ...], logits [n, ...]) -> value}` in NumPy, for metrics
        that sums over examples only approximate. Evaluations compute such a metric
        from all examples, in place of the metric of that name of `finalize`. Train
        metrics are those of `finalize`.
    """

    example_losses: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    example_sums: Callable[
        [tf.Tensor, tf.Tensor], collections.OrderedDict[str, tf.Tensor]
    ]
    finalize: Callable[
        [Mapping[str, tf.Tensor]], collections.OrderedDict[str, tf.Tensor]
    ]
    exact: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = dataclasses.field(
        default_factory=dict
    )

    def losses(self, examples: Mapping[str, tf.Tensor], predictions: Any) -> tf.Tensor:
        """The loss of each example, times its sample weight if there are weights.

        Args:
          examples: flat arrays by name (`data.structures`): y, and sample_weight where
            examples have weights.
          predictions: the model's output for them.

        Returns:
          float32 `[batch]`.
        """
        losses = self.example_losses(structures.packed(examples, "y"), predictions)
        return _times_weights(losses, examples)

    def sums(
        self, examples: Mapping[str, tf.Tensor], predictions: Any
    ) -> collections.OrderedDict[str, tf.Tensor]:
        """Each example's contribution to every sum; the loss is that of `losses`.

        The arguments are as in `losses`. Only the loss is weighted, as with Keras'
        `compile(metrics=...)`.
        """
        sums = self.example_sums(structures.packed(examples, "y"), predictions)
        sums["loss"] = _times_weights(sums["loss"], examples)
        return sums


def _times_weights(losses: tf.Tensor, examples: Mapping[str, tf.Tensor]) -> tf.Tensor:
    weights = examples.get(structures.SAMPLE_WEIGHT)
    return losses if weights is None else losses * tf.cast(weights, losses.dtype)


def _ratio(numerator: tf.Tensor, denominator: tf.Tensor) -> tf.Tensor:
    """The quotient, NaN where the denominator is zero."""
    ratio = tf.math.divide_no_nan(numerator, denominator)
    return tf.where(denominator > 0, ratio, tf.constant(float("nan"), ratio.dtype))


def _finalize_ratios(
    sums: Mapping[str, tf.Tensor],
) -> collections.OrderedDict[str, tf.Tensor]:
    return collections.OrderedDict(
        loss=_ratio(sums["loss"], sums["examples"]),
        accuracy=_ratio(sums["correct"], sums["predictions"]),
    )


def multiclass() -> Objective:
    """Softmax cross-entropy over integer labels `[batch]`; loss and accuracy."""

    def example_losses(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)

    def example_sums(
        y: tf.Tensor, logits: tf.Tensor
    ) -> collections.OrderedDict[str, tf.Tensor]:
        predicted = tf.argmax(logits, axis=-1, output_type=y.dtype)
        ones = tf.ones_like(logits[:, 0])
        return collections.OrderedDict(
            loss=example_losses(y, logits),
            examples=ones,
            correct=tf.cast(tf.equal(predicted, y), tf.float32),
            predictions=ones,
        )

    return Objective(example_losses, example_sums, _finalize_ratios)


def next_token(pad_id: int = 0) -> Objective:
    """Mean cross-entropy over the tokens of a sequence; padding does not count.

    Labels are integer `[batch, length]`, logits `[batch, length, vocabulary]`.
    An example's loss is the mean over its tokens, so that one example has one
    bounded say; accuracy is over tokens.
    """

    def token_losses(y: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        real = tf.cast(tf.not_equal(y, pad_id), tf.float32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
        return losses * real, real

    def example_losses(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        losses, real = token_losses(y, logits)
        return tf.math.divide_no_nan(
            tf.reduce_sum(losses, axis=1), tf.reduce_sum(real, axis=1)
        )

    def example_sums(
        y: tf.Tensor, logits: tf.Tensor
    ) -> collections.OrderedDict[str, tf.Tensor]:
        losses, real = token_losses(y, logits)
        tokens = tf.reduce_sum(real, axis=1)
        predicted = tf.argmax(logits, axis=-1, output_type=y.dtype)
        hits = tf.cast(tf.equal(predicted, y), tf.float32) * real
        return collections.OrderedDict(
            loss=tf.math.divide_no_nan(tf.reduce_sum(losses, axis=1), tokens),
            examples=tf.ones_like(tokens),
            correct=tf.reduce_sum(hits, axis=1),
            predictions=tokens,
        )

    return Objective(example_losses, example_sums, _finalize_ratios)


def regression() -> Objective:
    """Mean squared error; metrics loss and mean_absolute_error.

    Labels are float `[batch, ...]`; predictions are of the same shape, or of shape
    `[batch, 1]` where labels are `[batch]`. An example's loss is the mean over its
    outputs.
    """

    def errors(y: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
        return tf.reshape(predictions, tf.shape(y)) - tf.cast(y, tf.float32)

    def example_means(values: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(values, axis=list(range(1, values.shape.rank)))

    def example_losses(y: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
        return example_means(tf.square(errors(y, predictions)))

    def example_sums(
        y: tf.Tensor, predictions: tf.Tensor
    ) -> collections.OrderedDict[str, tf.Tensor]:
        losses = example_losses(y, predictions)
        return collections.OrderedDict(
            loss=losses,
            examples=tf.ones_like(losses),
            absolute_error=example_means(tf.abs(errors(y, predictions))),
        )

    def finalize(
        sums: Mapping[str, tf.Tensor],
    ) -> collections.OrderedDict[str, tf.Tensor]:
        return collections.OrderedDict(
            loss=_ratio(sums["loss"], sums["examples"]),
            mean_absolute_error=_ratio(sums["absolute_error"], sums["examples"]),
        )

    return Objective(example_losses, example_sums, finalize)


def binary() -> Objective:
    """Sigmoid cross-entropy over 0/1 labels `[batch]`; loss, accuracy and AUC.

    Logits are `[batch, 1]`. Evaluations compute the area under the ROC curve exactly,
    from the ranks of the logits (`ranking.auc`). The train metric, which is a sum over
    clients, is computed from 200-bin histograms of the predicted probability for
    either class, with ties within a bin counted half (Mann-Whitney). So it is too near
    to 1/2 if most probabilities fall into few bins: with few positives, or with
    saturated scores.
    """

    def example_losses(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        return tf.nn.sigmoid_cross_entropy_with_logits(
            labels=tf.cast(y, tf.float32), logits=logits[:, 0]
        )

    def example_sums(
        y: tf.Tensor, logits: tf.Tensor
    ) -> collections.OrderedDict[str, tf.Tensor]:
        target = tf.cast(y, tf.float32)
        positive = tf.cast(logits[:, 0] > 0, tf.float32)
        ones = tf.ones_like(target)
        scores = tf.sigmoid(logits[:, 0])
        bins = tf.one_hot(
            tf.clip_by_value(tf.cast(scores * _AUC_BINS, tf.int32), 0, _AUC_BINS - 1),
            _AUC_BINS,
        )
        return collections.OrderedDict(
            loss=example_losses(y, logits),
            examples=ones,
            correct=tf.cast(tf.equal(positive, target), tf.float32),
            predictions=ones,
            positive_scores=bins * target[:, tf.newaxis],
            negative_scores=bins * (1.0 - target)[:, tf.newaxis],
        )

    def finalize(
        sums: Mapping[str, tf.Tensor],
    ) -> collections.OrderedDict[str, tf.Tensor]:
        metrics = _finalize_ratios(sums)
        positives = tf.convert_to_tensor(sums["positive_scores"])
        negatives = tf.convert_to_tensor(sums["negative_scores"])
        below = tf.cumsum(negatives, exclusive=True)
        wins = tf.reduce_sum(positives * (below + 0.5 * negatives))
        pairs = tf.reduce_sum(positives) * tf.reduce_sum(negatives)
        metrics["auc"] = _ratio(wins, pairs)
        return metrics

    def exact_auc(y: np.ndarray, logits: np.ndarray) -> float:
        return ranking.auc(y > 0, logits[:, 0])

    return Objective(example_losses, example_sums, finalize, {"auc": exact_auc})
