"""Trained models as Keras SavedModels, which load without this package."""

from __future__ import annotations

import logging
import pathlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

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
        shapes = [tuple(variable.shape) for variable in variables]
        given = [np.shape(value) for value in values]
        if shapes != given:
            raise ValueError(
                f"{kind} weights have shapes {given}, expected the model's {shapes}"
            )
        for variable, value in zip(variables, values):
            variable.assign(value)


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


def export_model(task: Task, weights: Any, path: pathlib.Path) -> None:
    """Writes the task's model with these weights to the folder `path`.

    `tf.keras.models.load_model(path)` loads the model. An earlier export in the folder
    is replaced when the new export is complete.

    Raises:
      ValueError: the number or the shapes of the weights differ from the model's.
    """
    model = task.build_model()
    assign_weights(model, weights)
    temporary = path.with_name(path.name + atomic.TEMPORARY_SUFFIX)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    with _quiet_saving():
        model.save(temporary, save_format="tf")
    atomic.replace_folder(temporary, path)
