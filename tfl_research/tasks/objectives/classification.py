"""Objectives over classes: multiclass, binary, several labels, and next tokens."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Optional, Union

import numpy as np
import tensorflow as tf

from tfl_research.models import heads
from tfl_research.tasks import ranking
from tfl_research.tasks.metrics import Metric
from tfl_research.tasks.objectives.objective import Objective, Part, ratio
from tfl_research.tasks.objectives.rules import Binary, Classes

# The weight of each class in the loss, by class.
ClassWeight = Union[Mapping[int, float], Sequence[float]]

# A prediction that is NaN is never right.
_LOSS, _ACCURACY = Metric(higher_is_better=False), Metric(higher_is_better=True)
# Keras keeps probabilities this far from 0 and 1 in its losses.
_EPSILON = 1e-7


def _ratios(
    sums: Mapping[str, tf.Tensor],
) -> collections.OrderedDict[str, tf.Tensor]:
    return collections.OrderedDict(
        loss=ratio(sums["loss"], sums["examples"]),
        accuracy=ratio(sums["correct"], sums["predictions"]),
    )


def itself(predictions: tf.Tensor) -> tf.Tensor:
    """Returns the predictions: the only output of a model."""
    return predictions


def classes(y: tf.Tensor, rank: int) -> tf.Tensor:
    """Converts labels of any dtype to int32, without a last axis of length 1."""
    y = tf.convert_to_tensor(y)
    if y.shape.rank == rank + 1:
        y = tf.squeeze(y, axis=-1)
    return tf.cast(y, tf.int32)


def weight_table(class_weight: Optional[ClassWeight], number: int) -> np.ndarray:
    """Returns the weights of classes 0, 1, ... as float32, 1 if no weight is given.

    Raises:
      ValueError: a class is not a class of the model, or a weight is below 0.
    """
    table = np.ones(number, np.float32)
    if class_weight is None:
        return table
    if not isinstance(class_weight, Mapping):
        class_weight = dict(enumerate(class_weight))
    for label, weight in class_weight.items():
        if label not in range(number):
            raise ValueError(
                f"class_weight has a weight of class {label!r}, expected classes of 0 "
                f"to {number - 1}"
            )
        if not 0 <= weight < float("inf"):
            raise ValueError(
                f"class_weight of class {label} must be at least 0, got {weight}"
            )
        table[label] = weight
    return table


def _cross_entropy(y: tf.Tensor, outputs: tf.Tensor, from_logits: bool) -> tf.Tensor:
    """Computes -log of the class' probability, float32 with the shape of y."""
    outputs, from_logits = _logits(outputs, "Softmax", from_logits)
    if not from_logits:
        outputs = tf.math.log(tf.clip_by_value(outputs, _EPSILON, 1 - _EPSILON))
    classes = outputs.shape[-1]
    if classes is None or not outputs.shape[:-1].is_compatible_with(y.shape):
        # If shapes do not fit, TensorFlow's error names them.
        return tf.nn.sparse_softmax_cross_entropy_with_logits(y, outputs)
    # Compilers need a matrix whose number of classes is known.
    rows = tf.reshape(outputs, [-1, classes])
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.reshape(y, [-1]), rows)
    return tf.reshape(losses, tf.shape(y))


def _logits(outputs: tf.Tensor, kind: str, from_logits: bool) -> tuple[tf.Tensor, bool]:
    """Finds the logits of probabilities if the model's head is known, as Keras does.

    Returns:
      The outputs as float32, and whether they are logits.
    """
    head = heads.of(outputs)
    if from_logits or head is None or head.kind != kind:
        return tf.cast(outputs, tf.float32), from_logits
    return tf.cast(head.logits, tf.float32), True


def _hits(y: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Returns 1 where the largest output is that of class y, and 0 for a NaN output."""
    predicted = tf.argmax(outputs, axis=-1, output_type=y.dtype)
    # The argmax of NaN is often class 0, which the model has not predicted.
    unknown = tf.reduce_any(tf.math.is_nan(outputs), axis=-1)
    return tf.cast(tf.equal(predicted, y) & ~unknown, tf.float32)


def _binary_hits(
    targets: tf.Tensor, outputs: tf.Tensor, from_logits: bool
) -> tf.Tensor:
    """Returns 1 where the predicted class is the target; 0 where an output is NaN."""
    positive = tf.cast(outputs > (0.0 if from_logits else 0.5), tf.float32)
    # A NaN is not above the threshold, and would count as a predicted 0.
    known = ~tf.math.is_nan(outputs)
    return tf.cast(tf.equal(positive, targets) & known, tf.float32)


def multiclass(
    *, from_logits: bool = True, class_weight: Optional[ClassWeight] = None
) -> Objective:
    """Makes the objective of cross-entropy over integer labels; loss and accuracy.

    Labels are `[batch]` or `[batch, 1]`, of any dtype, but whole numbers.

    Args:
      from_logits: whether the outputs `[batch, classes]` are logits. If not, they are
        probabilities, as of a softmax layer.
      class_weight: the loss of an example is multiplied by the weight of its class, as
        with Keras' `fit(class_weight=...)`; 1 for classes without a weight.
    """

    def example_losses(y: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        y = classes(y, 1)
        losses = _cross_entropy(y, outputs, from_logits)
        if class_weight is None:
            return losses
        return losses * tf.gather(weight_table(class_weight, outputs.shape[-1]), y)

    def example_sums(
        y: tf.Tensor, outputs: tf.Tensor
    ) -> collections.OrderedDict[str, tf.Tensor]:
        ones = tf.ones_like(outputs[:, 0], tf.float32)
        return collections.OrderedDict(
            loss=example_losses(y, outputs),
            examples=ones,
            correct=_hits(classes(y, 1), outputs),
            predictions=ones,
        )

    return Objective(
        example_losses,
        example_sums,
        _ratios,
        {"loss": _LOSS, "accuracy": _ACCURACY},
        (Part("y", itself, Classes(from_logits, single=True)),),
        refuses_masks=True,
    )


def next_token(pad_id: int = 0, *, from_logits: bool = True) -> Objective:
    """Makes the objective of mean cross-entropy over tokens; padding does not count.

    Labels are integer `[batch, length]`, outputs `[batch, length, vocabulary]`.
    An example's loss is the mean over its tokens, so that long sequences do not
    count more than short ones. The accuracy is the mean over all tokens.

    Args:
      pad_id: the label of padding.
      from_logits: whether the outputs are logits, or else probabilities.
    """

    def token_losses(y: tf.Tensor, outputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        real = tf.cast(tf.not_equal(y, pad_id), tf.float32)
        return _cross_entropy(y, outputs, from_logits) * real, real

    def example_losses(y: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        losses, real = token_losses(classes(y, 2), outputs)
        return tf.math.divide_no_nan(
            tf.reduce_sum(losses, axis=1), tf.reduce_sum(real, axis=1)
        )

    def example_sums(
        y: tf.Tensor, outputs: tf.Tensor
    ) -> collections.OrderedDict[str, tf.Tensor]:
        y = classes(y, 2)
        losses, real = token_losses(y, outputs)
        tokens = tf.reduce_sum(real, axis=1)
        return collections.OrderedDict(
            loss=tf.math.divide_no_nan(tf.reduce_sum(losses, axis=1), tokens),
            examples=tf.ones_like(tokens),
            correct=tf.reduce_sum(_hits(y, outputs) * real, axis=1),
            predictions=tokens,
        )

    return Objective(
        example_losses,
        example_sums,
        _ratios,
        {"loss": _LOSS, "accuracy": _ACCURACY},
        (Part("y", itself, Classes(from_logits, name="next_token")),),
    )


def _sigmoid_losses(
    targets: tf.Tensor, outputs: tf.Tensor, from_logits: bool
) -> tf.Tensor:
    outputs, from_logits = _logits(outputs, "Sigmoid", from_logits)
    outputs = tf.reshape(outputs, tf.shape(targets))
    if from_logits:
        return tf.nn.sigmoid_cross_entropy_with_logits(targets, outputs)
    clipped = tf.clip_by_value(outputs, _EPSILON, 1 - _EPSILON)
    log, log_other = tf.math.log(clipped), tf.math.log(1 - clipped)
    return -(targets * log + (1 - targets) * log_other)


def binary(
    *, from_logits: bool = True, class_weight: Optional[ClassWeight] = None
) -> Objective:
    """Makes the objective of cross-entropy over 0/1 labels `[batch]`.

    Outputs are `[batch, 1]` or `[batch]`. The metrics are loss and accuracy.
    Evaluations also have the exact area under the ROC curve (`auc`) and average
    precision (`pr_auc`), from the ranks of all examples (`ranking`). Training has
    neither: if positives are few or scores are saturated, no sum over clients of a
    usable size gives an area within 0.001.

    Args:
      from_logits: whether the outputs are logits, or else probabilities.
      class_weight: as in `multiclass`.
    """

    def flat(values: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.cast(values, tf.float32), [-1])

    def example_losses(y: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        targets = flat(y)
        losses = _sigmoid_losses(targets, outputs, from_logits)
        if class_weight is None:
            return losses
        zero, one = weight_table(class_weight, 2)
        return losses * tf.where(targets > 0.5, one, zero)

    def example_sums(
        y: tf.Tensor, outputs: tf.Tensor
    ) -> collections.OrderedDict[str, tf.Tensor]:
        target = flat(y)
        ones = tf.ones_like(target)
        return collections.OrderedDict(
            loss=example_losses(y, outputs),
            examples=ones,
            correct=_binary_hits(target, flat(outputs), from_logits),
            predictions=ones,
        )

    return Objective(
        example_losses,
        example_sums,
        _ratios,
        {
            "loss": _LOSS,
            "accuracy": _ACCURACY,
            "auc": Metric(True, is_partial=True, of_examples=ranking.auc_of_labels),
            "pr_auc": Metric(
                True, is_partial=True, of_examples=ranking.average_precision_of_labels
            ),
        },
        (Part("y", itself, Binary(from_logits)),),
        refuses_masks=True,
    )


def multi_label(
    *,
    from_logits: bool = True,
    positive_weight: Union[float, Sequence[float]] = 1.0,
) -> Objective:
    """Makes the objective of mean cross-entropy over 0/1 labels `[batch, labels]`.

    Several labels of an example may be 1. Accuracy is the share of correctly predicted
    labels. Evaluations also have `auc`, the area under the ROC curve, as the mean over
    the labels that have both classes.

    Args:
      from_logits: whether the outputs `[batch, labels]` are logits, or else
        probabilities.
      positive_weight: factor of the loss of labels that are 1: a number for all labels,
        or a number for each label, as in `tf.nn.weighted_cross_entropy_with_logits`.
    """

    def example_losses(y: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        targets = tf.cast(y, tf.float32)
        losses = _sigmoid_losses(targets, outputs, from_logits)
        factors = tf.where(targets > 0.5, tf.constant(positive_weight, tf.float32), 1.0)
        return tf.reduce_mean(losses * factors, axis=-1)

    def example_sums(
        y: tf.Tensor, outputs: tf.Tensor
    ) -> collections.OrderedDict[str, tf.Tensor]:
        targets = tf.cast(y, tf.float32)
        right = _binary_hits(targets, outputs, from_logits)
        ones = tf.ones_like(targets[:, 0])
        return collections.OrderedDict(
            loss=example_losses(y, outputs),
            examples=ones,
            correct=tf.reduce_mean(right, axis=-1),
            predictions=ones,
        )

    return Objective(
        example_losses,
        example_sums,
        _ratios,
        {
            "loss": _LOSS,
            "accuracy": _ACCURACY,
            "auc": Metric(True, is_partial=True, of_examples=ranking.mean_auc),
        },
        (Part("y", itself, Binary(from_logits, single=False, name="multi_label")),),
        refuses_masks=True,
    )
