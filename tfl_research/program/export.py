"""Trained models as SavedModels, which load without this package."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from tfl_research import models
from tfl_research.errors import UserError
from tfl_research.models.adapters import merged
from tfl_research.storage import atomic
from tfl_research.tasks.task import Task


def assign_weights(model: Any, weights: Any) -> None:
    """Sets a Keras model's weights.

    Args:
      model: a built Keras model.
      weights: an object with `trainable` and `non_trainable`, arrays in the model's
        order (`tff.learning.models.ModelWeights`).

    Raises:
      ValueError: the number or the shapes of the weights differ from the model's.
    """
    for kind in ("trainable", "non_trainable"):
        variables = getattr(model, f"{kind}_variables")
        values = list(getattr(weights, kind))
        _check_shapes(kind, variables, values)
        for variable, value in zip(variables, values):
            variable.assign(value)


class _Exported(tf.Module):
    """A model that is no Keras model, with its weights as variables."""

    def __init__(self, task: Task, weights: Any):
        super().__init__()
        model, x_spec = task.functional_model(), task.x_spec
        _check_shapes("trainable", model.initial_weights, weights.trainable)
        _check_shapes("non_trainable", model.initial_state, weights.non_trainable)
        self.trained = [tf.Variable(np.asarray(w)) for w in weights.trainable]
        self.fixed = [
            tf.Variable(np.asarray(w), trainable=False) for w in weights.non_trainable
        ]
        self.predict = tf.function(
            lambda x: model.predict(
                [tf.convert_to_tensor(w) for w in self.trained],
                [tf.convert_to_tensor(w) for w in self.fixed],
                x,
            ),
            input_signature=[x_spec],
        )


def _check_shapes(kind: str, own: Any, given: Any) -> None:
    shapes = [tuple(value.shape) for value in own]
    if [np.shape(value) for value in given] != shapes:
        raise ValueError(
            f"{kind} weights have shapes {[np.shape(value) for value in given]}, "
            f"expected the model's {shapes}"
        )


@contextmanager
def _quiet_saving() -> Iterator[None]:
    """Mutes TensorFlow's notices about assets and uncompiled metrics while saving."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def model_with(task: Task, weights: Any) -> Any:
    """The task's model with these weights.

    Returns:
      A Keras model, with low-rank adapters (`models.lora`) merged into the weights that
      they adapt. For other models a module with the function `predict`, from inputs to
      predictions.

    Raises:
      ValueError: the number or the shapes of the weights differ from the model's.
    """
    built = task.build_model if callable(task.build_model) else None
    model = models.built_model(built, task.x_spec) if built else None
    if not isinstance(model, tf.keras.Model):
        return _Exported(task, weights)
    assign_weights(model, weights)
    return merged(model)


def export_model(task: Task, weights: Any, path: pathlib.Path) -> None:
    """Writes the task's model with these weights to the folder `path`.

    `tf.keras.models.load_model(path)` loads a Keras model, and `tf.saved_model.load`
    another one; see `model_with`. An earlier export in the folder is replaced when the
    new export is complete.

    Raises:
      ValueError: the number or the shapes of the weights differ from the model's.
      UserError: the folder cannot be written.
    """
    model = model_with(task, weights)
    try:
        _write(model, path)
    except (OSError, tf.errors.OpError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.message
        raise UserError(
            f"{path} could not be written ({reason or error}); the rounds are kept: "
            "free space, or make the folder writable, then give the same command again"
        ) from error


def _write(model: Any, path: pathlib.Path) -> None:
    temporary = path.with_name(path.name + atomic.TEMPORARY_SUFFIX)
    atomic.remove(temporary)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    with _quiet_saving():
        if isinstance(model, tf.keras.Model):
            model.save(temporary, save_format="tf")
        else:
            tf.saved_model.save(model, str(temporary))
    atomic.replace_folder(temporary, path)
