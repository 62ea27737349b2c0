"""Computes Keras' losses for each example."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Optional

import tensorflow as tf

from tfl_research import autograph
from tfl_research.tasks.objectives.classification import ClassWeight, weight_table
from tfl_research.tasks.objectives.rules import Binary, Classes, Numbers, OneHot, Rule
from tfl_research.tasks.objectives.tracing import (
    Traced,
    as_in_fit,
    required_arguments,
)

# Keras' names of the mean over a batch.
_MEANS = ("auto", "sum_over_batch_size")
_CLASSES = ("SparseCategoricalCrossentropy", "sparse_categorical_crossentropy")
_ONE_HOT = (
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
)
_BINARY = (
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "binary_crossentropy",
    "binary_focal_crossentropy",
)


_NO_MASKS = (
    "it leaves labels out and takes the mean over the other labels of the whole batch, "
    "not over examples; give examples a sample_weight of 0, or a function that returns "
    "the mean over the labels of each example that count"
)


@dataclasses.dataclass(frozen=True)
class ExampleLoss:
    """A loss of Keras for each example.

    Attributes:
      of_examples: (y `[batch, ...]`, predictions `[batch, ...]`) -> float32 `[batch]`,
        the mean over an example's outputs.
      rule: the rule for labels and outputs.
      class_weights: (y, predictions) -> float32 `[batch]`, the weight of each example's
        class; None without weights. `of_examples` already applies these weights.
    """

    of_examples: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    rule: Rule
    class_weights: Optional[Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = None


def example_loss(loss: Any, class_weight: Optional[ClassWeight] = None) -> ExampleLoss:
    """Makes the loss of each example, whose mean over a batch is the loss of `fit`.

    Args:
      loss: a loss of Keras, its name, or a function of labels and predictions.
      class_weight: see `from_keras`.

    Raises:
      ValueError: Keras has no such loss, the loss is not a mean over examples, or class
        weights are given for a loss without classes.
    """
    found = _resolved(loss)
    name = found.name
    if found.reduction not in _MEANS:
        raise ValueError(
            f"loss {name!r} has reduction={found.reduction!r}; expected "
            "'sum_over_batch_size', because a local step takes the mean over its "
            "examples"
        )
    if type(found).__call__ is not tf.keras.losses.Loss.__call__:
        raise ValueError(
            f"loss {name!r} defines __call__, which weights and averages the losses; "
            "define call(y_true, y_pred) instead, which returns the loss of each "
            "example"
        )
    ignored = _config(found).get("ignore_class")
    if ignored is not None:
        raise ValueError(f"loss {name!r} has ignore_class={ignored}: {_NO_MASKS}")
    rule = _rule(found)
    if class_weight is not None and isinstance(rule, Numbers):
        raise ValueError(
            f"class_weight: loss {name!r} has no classes; give sample_weight with the "
            "examples"
        )

    # Keras converts a loss that is called; `call` is not called by Keras here.
    losses_of = autograph.converted_as_needed(found.call)

    def call(y: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
        losses = losses_of(*as_in_fit(y, predictions))
        if getattr(losses, "_keras_mask", None) is not None:
            raise ValueError(_NO_MASKS)
        return tf.cast(losses, tf.float32)

    traced = Traced(f"loss {name!r}", call)

    def of_examples(y: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
        y, predictions = tf.convert_to_tensor(y), tf.convert_to_tensor(predictions)
        losses = traced(y, predictions)
        if losses.shape.rank == 0:
            raise ValueError(
                f"loss {name!r} returns one number for a batch; expected the loss of "
                "each example, as tf.reduce_mean(..., axis=-1)"
            )
        losses = tf.reduce_mean(losses, axis=list(range(1, losses.shape.rank)))
        if class_weight is None:
            return losses
        return losses * _weights(class_weight, rule, y, predictions)

    def class_weights(y: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
        y, predictions = tf.convert_to_tensor(y), tf.convert_to_tensor(predictions)
        return _weights(class_weight or {}, rule, y, predictions)

    weighted = None if class_weight is None else class_weights
    return ExampleLoss(of_examples, rule, weighted)


def _resolved(loss: Any) -> Any:
    if isinstance(loss, tf.keras.losses.Loss):
        return loss
    if isinstance(loss, type) and issubclass(loss, tf.keras.losses.Loss):
        raise ValueError(f"loss is the class {loss.__name__}; give {loss.__name__}()")
    if isinstance(loss, str):
        try:
            loss = tf.keras.losses.get(loss)
        except ValueError as error:
            raise ValueError(
                f"Keras has no loss {loss!r}; give a name that Keras has, or a loss"
            ) from error
        if isinstance(loss, tf.keras.losses.Loss):
            return loss
    if not callable(loss) or required_arguments(loss) != 2:
        raise ValueError(
            f"loss must be a loss of Keras, its name, or a function of labels and "
            f"predictions, got {loss!r}"
        )
    return _FunctionLoss(loss)


class _FunctionLoss(tf.keras.losses.Loss):
    """A Keras loss made of a function of labels and predictions."""

    def __init__(self, function: Callable[..., tf.Tensor]):
        super().__init__(name=str(getattr(function, "__name__", "loss")))
        self.function = function

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Computes the function's losses; first makes ranks equal that differ by one.

        Keras' own losses make the ranks equal in the same way.

        Args:
          y_true: labels, `[batch, ...]`.
          y_pred: predictions, `[batch, ...]`.
        """
        rank, given = y_pred.shape.rank, y_true.shape.rank
        if given == rank - 1 and y_pred.shape[-1] == 1:
            y_pred = tf.squeeze(y_pred, axis=-1)
        elif given == rank + 1 and y_true.shape[-1] == 1:
            y_true = tf.squeeze(y_true, axis=-1)
        return self.function(y_true, y_pred)


def _config(loss: Any) -> dict[str, Any]:
    """Returns the settings of a loss whose class is Keras' own."""
    if type(loss).__module__.split(".")[0] != "keras":
        return {}
    return dict(loss.get_config())


def _rule(loss: Any) -> Rule:
    kind = loss.name if isinstance(loss, _FunctionLoss) else type(loss).__name__
    module = type(loss).__module__
    if isinstance(loss, _FunctionLoss):
        module = str(loss.function.__module__)
    if module.split(".")[0] != "keras":
        return Numbers(is_strict=False)
    config = _config(loss)
    from_logits = bool(config.get("from_logits", False))
    if kind in _CLASSES:
        return Classes(from_logits)
    if kind in _ONE_HOT:
        return OneHot(from_logits)
    if kind in _BINARY:
        return Binary(from_logits, single=False, soft=True)
    return Numbers()


def _weights(
    class_weight: ClassWeight, rule: Rule, y: tf.Tensor, predictions: tf.Tensor
) -> tf.Tensor:
    """Returns the weight of each example's class."""
    if isinstance(rule, Binary):
        table = weight_table(class_weight, 2)
        labels = tf.cast(tf.reshape(tf.cast(y, tf.float32), [-1]) > 0.5, tf.int32)
        if predictions.shape[1:].num_elements() != 1:
            raise ValueError(
                "class_weight: labels with several parts for each example have no "
                "class to weight; leave class_weight out"
            )
        return tf.gather(table, labels)
    table = weight_table(class_weight, predictions.shape[-1])
    if isinstance(rule, OneHot):
        labels = tf.argmax(y, axis=-1, output_type=tf.int32)
    else:
        labels = tf.cast(y, tf.int32)
        if labels.shape.rank == predictions.shape.rank:
            labels = tf.squeeze(labels, axis=-1)
    weights = tf.gather(table, labels)
    if weights.shape.rank != 1:
        raise ValueError(
            "class_weight: an example with several labels has no class to weight; "
            "leave class_weight out"
        )
    return weights
