"""Writes a user's Keras models as SavedModels, or refuses them in one line."""

from __future__ import annotations

import pathlib
import tempfile

import tensorflow as tf

from tfl_research.errors import UserError
from tfl_research.models.execution.tracing import one_line
from tfl_research.models.modules import modules_of
from tfl_research.program.results.saved_model_files import quiet_saving

# Packages with classes that Keras can save.
_KNOWN = ("keras", "tensorflow", "tfl_research")


def save(model: tf.keras.Model, path: pathlib.Path) -> None:
    """Writes a SavedModel to the folder `path`.

    Raises:
      UserError: Keras cannot save the model, because of the code of the model's
        classes.
      OSError, tf.errors.OpError: the folder cannot be written.
    """
    try:
        with quiet_saving():
            model.save(path, save_format="tf")
    except (OSError, tf.errors.OpError):
        raise
    except Exception as error:  # Of a user's class: any.
        # AutoGraph converts a layer's call when Keras trains, not when it saves.
        branches = isinstance(error, tf.errors.OperatorNotAllowedInGraphError)
        remedy = "decorate its call with @tf.function" if branches else "change it"
        raise UserError(
            f"the model {type(model).__name__} cannot be saved as a SavedModel "
            f"({type(error).__name__}: {one_line(error)}); {remedy}, or give "
            "--export=False"
        ) from error


def check(model: tf.keras.Model) -> None:
    """Tries to save a built model that has classes of a user's own.

    Raises:
      UserError: see `save`.
    """
    classes = {type(each) for each in (model, *modules_of(model))}
    if all(each.__module__.partition(".")[0] in _KNOWN for each in classes):
        return
    with tempfile.TemporaryDirectory() as folder:
        save(model, pathlib.Path(folder) / "model")
