"""Objectives over numbers: squared, absolute and Huber's error."""

from __future__ import annotations

import collections
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfl_research.tasks.metrics import Metric
from tfl_research.tasks.objectives.classification import itself
from tfl_research.tasks.objectives.objective import Objective, Part, ratio
from tfl_research.tasks.objectives.rules import Numbers

LOSSES = ("mse", "mae", "huber")


def r2(y: np.ndarray, predictions: np.ndarray) -> float:
    """Computes R², 1 - Σ(y - ŷ)² / Σ(y - mean y)², in float64.

    The sums are over all examples and outputs; each output has its own mean. R² (the
    coefficient of determination) is NaN if the labels do not vary, as for a client with
    at most one example.
    """
    if not len(y):
        return float("nan")
    target = np.asarray(y, np.float64).reshape(len(y), -1)
    found = np.asarray(predictions, np.float64).reshape(len(y), -1)
    spread = float(((target - target.mean(axis=0)) ** 2).sum())
    return 1 - float(((target - found) ** 2).sum()) / spread if spread else float("nan")


def regression(loss: str = "mse", *, delta: float = 1.0) -> Objective:
    """Makes the objective of an error of numbers.

    The metrics are loss, mean_absolute_error and rmse, and in evaluations also r2.
    Labels are numbers `[batch, ...]`. Predictions have the same shape, or labels or
    predictions have an additional last axis of length 1. An example's loss is the mean
    over its outputs. Training does not measure `r2`, since sums of squares in float32
    lose the variance of large labels.

    Args:
      loss: "mse", the squared error; "mae", the absolute error; or "huber", half the
        squared error up to `delta` and linear beyond (Huber 1964).
      delta: δ of Huber's loss, above 0.

    Raises:
      ValueError: the loss has another name, or delta is not above 0.
    """
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")
    if not delta > 0:
        raise ValueError(f"delta must be above 0, got {delta}")

    def numbers(y: tf.Tensor, predictions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        given = tf.reshape(tf.cast(y, tf.float32), tf.shape(predictions))
        return given, tf.cast(predictions, tf.float32)

    def example_means(values: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(values, axis=list(range(1, values.shape.rank)))

    def of_errors(errors: tf.Tensor) -> tf.Tensor:
        sizes = tf.abs(errors)
        if loss == "mse":
            return example_means(tf.square(errors))
        if loss == "mae":
            return example_means(sizes)
        near = 0.5 * tf.square(errors)
        return example_means(
            tf.where(sizes <= delta, near, delta * (sizes - delta / 2))
        )

    def example_losses(y: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
        target, found = numbers(y, predictions)
        return of_errors(found - target)

    def example_sums(
        y: tf.Tensor, predictions: tf.Tensor
    ) -> collections.OrderedDict[str, tf.Tensor]:
        target, found = numbers(y, predictions)
        errors = found - target
        losses = of_errors(errors)
        return collections.OrderedDict(
            loss=losses,
            examples=tf.ones_like(losses),
            absolute_error=example_means(tf.abs(errors)),
            squared_error=example_means(tf.square(errors)),
        )

    def finalize(
        sums: Mapping[str, tf.Tensor],
    ) -> collections.OrderedDict[str, tf.Tensor]:
        return collections.OrderedDict(
            loss=ratio(sums["loss"], sums["examples"]),
            mean_absolute_error=ratio(sums["absolute_error"], sums["examples"]),
            rmse=tf.sqrt(ratio(sums["squared_error"], sums["examples"])),
        )

    lower = Metric(higher_is_better=False)
    return Objective(
        example_losses,
        example_sums,
        finalize,
        {
            "loss": lower,
            "mean_absolute_error": lower,
            "rmse": lower,
            "r2": Metric(True, is_partial=True, of_examples=r2),
        },
        (Part("y", itself, Numbers()),),
        refuses_masks=True,
    )
