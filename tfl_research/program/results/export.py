"""Trained models as SavedModels, which load without this package."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from tfl_research import models
from tfl_research.errors import UserError
from tfl_research.models import known_builders
from tfl_research.models.adapters import merged
from tfl_research.program.results import keras_saving, saved_model_files
from tfl_research.program.results.saved_model_files import (
    assign_weights,
    check_shapes,
    quiet_saving,
)
from tfl_research.storage.files import atomic
from tfl_research.tasks.task import Task


class _Exported(tf.Module):
    """A module for a model that is no Keras model, with its weights as variables."""

    def __init__(self, task: Task, weights: Any):
        super().__init__()
        model, x_spec = task.functional_model(), task.x_spec
        check_shapes("trainable", model.initial_weights, weights.trainable)
        check_shapes("non_trainable", model.initial_state, weights.non_trainable)
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


def model_with(task: Task, weights: Any) -> Any:
    """Makes the task's model with these weights.

    Returns:
      A Keras model; low-rank adapters (`models.lora`) are merged into the weights that
      they adapt. If the task's model is no Keras model, a module with the function
      `predict`, from inputs to predictions.

    Raises:
      ValueError: the number or the shapes of the weights differ from the model's.
    """
    built = task.build_model if callable(task.build_model) else None
    model = models.built_model(built, task.x_spec) if built else None
    if not isinstance(model, tf.keras.Model):
        return _Exported(task, weights)
    assign_weights(model, weights)
    return merged(model)


def check_export(task: Task) -> None:
    """Checks before the first round that Keras can save a user's own model classes.

    If points of a sweep have the same model, the model is checked once.

    Raises:
      UserError: Keras cannot save the model.
    """
    build = task.build_model
    if not callable(build) or known_builders.key_of(build) is not None:
        return

    def check() -> None:
        model = models.built_model(build, task.x_spec, any_weights=True)
        if isinstance(model, tf.keras.Model):
            keras_saving.check(merged(model))

    task.fitting.once("export", check)


def export_model(task: Task, weights: Any, path: pathlib.Path) -> None:
    """Writes the task's model with these weights to the folder `path`.

    `tf.keras.models.load_model(path)` loads a Keras model. `tf.saved_model.load` loads
    another model; see `model_with`. An earlier export in the folder is replaced when
    the new export is complete.

    Raises:
      ValueError: the number or the shapes of the weights differ from the model's.
      UserError: the folder cannot be written, or Keras cannot save the model.
    """
    files = saved_model_files.of_task(task)
    model = None if files is not None else model_with(task, weights)
    try:
        with _replaced(path) as temporary:
            if files is not None:
                with quiet_saving():
                    files.write(weights, temporary)
            elif isinstance(model, tf.keras.Model):
                keras_saving.save(model, temporary)
            else:
                with quiet_saving():
                    tf.saved_model.save(model, str(temporary))
    except (OSError, tf.errors.OpError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.message
        raise UserError(
            f"{path} could not be written ({reason or error}); the rounds are kept: "
            "free space, or make the folder writable, then give the same command again"
        ) from error


@contextmanager
def _replaced(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a new folder, which replaces `path` at the end of the block."""
    temporary = path.with_name(path.name + atomic.TEMPORARY_SUFFIX)
    atomic.remove(temporary)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    yield temporary
    atomic.replace_folder(temporary, path)
