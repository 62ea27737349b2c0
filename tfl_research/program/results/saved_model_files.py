"""SavedModels of Keras models that one process exports again and again.

For each export, Keras traces the model and writes files that differ only in the
weights. So this module keeps the files of the toolkit's own models, and an export only
writes the weights beside copies of these files.
"""

from __future__ import annotations

import logging
import pathlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from tfl_research import _tff_compat, models
from tfl_research.models import known_builders
from tfl_research.models.adapters import merged
from tfl_research.models.modules import non_trainable_variables
from tfl_research.tasks.task import Task

_VARIABLES = "variables/variables"
# Each export writes this file anew, since the file has a digest of the weights.
_FINGERPRINT = "fingerprint.pb"


@contextmanager
def quiet_saving() -> Iterator[None]:
    """Mutes TensorFlow's notices about assets and uncompiled metrics while saving."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def assign_weights(model: Any, weights: Any) -> None:
    """Sets a Keras model's weights.

    Args:
      model: a built Keras model.
      weights: an object with `trainable` and `non_trainable`, arrays in the model's
        order (`tff.learning.models.ModelWeights`).

    Raises:
      ValueError: the number or the shapes of the weights differ from the model's.
    """
    for kind, variables in (
        ("trainable", model.trainable_variables),
        ("non_trainable", non_trainable_variables(model)),
    ):
        values = list(getattr(weights, kind))
        check_shapes(kind, variables, values)
        for variable, value in zip(variables, values):
            variable.assign(value)


def check_shapes(kind: str, own: Any, given: Any) -> None:
    # Weights that a layer got by `adapt` may have any length.
    shapes = [tf.TensorShape(value.shape) for value in own]
    found = [tuple(np.shape(value)) for value in given]
    if len(found) != len(shapes) or not all(
        shape.is_compatible_with(each) for shape, each in zip(shapes, found)
    ):
        raise ValueError(
            f"{kind} weights have shapes {found}, expected the model's "
            f"{[tuple(shape) for shape in shapes]}"
        )


class SavedModelFiles:
    """The files of a SavedModel, into which `write` puts other weights.

    Args:
      model: a Keras model that no other code uses.

    Raises:
      ValueError: the places of the weights in the files are unknown.
    """

    def __init__(self, model: tf.keras.Model):
        kinds = model.trainable_variables, non_trainable_variables(model)
        self._kinds = [
            [tf.TensorSpec(v.shape, v.dtype) for v in kind] for kind in kinds
        ]
        for number, variable in enumerate(v for kind in kinds for v in kind):
            variable.assign(_marked(variable, number))
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            with quiet_saving():
                model.save(folder, save_format="tf")
            self._folders = [
                p.relative_to(folder) for p in folder.rglob("*") if p.is_dir()
            ]
            self._files = {
                path.relative_to(folder): path.read_bytes()
                for path in folder.rglob("*")
                if path.is_file() and not self._is_written_anew(path, folder)
            }
            self._entries = _entries(folder / _VARIABLES)
        self._places = self._found(self._entries)

    def _is_written_anew(self, path: pathlib.Path, folder: pathlib.Path) -> bool:
        name = path.relative_to(folder).as_posix()
        return name == _FINGERPRINT or name.startswith(f"{_VARIABLES}.")

    def _found(self, entries: dict[str, Any]) -> list[str]:
        """Finds the name of each weight in the checkpoint."""
        names = []
        for number, spec in enumerate(self._kinds[0] + self._kinds[1]):
            marked = _marked(spec, number)
            equal = [n for n, value in entries.items() if _is_equal(value, marked)]
            if len(equal) != 1:
                raise ValueError(
                    f"weight {number} occurs {len(equal)} times in the files"
                )
            names += equal
        return names

    def write(self, weights: Any, folder: pathlib.Path) -> None:
        """Writes a SavedModel with these weights.

        Args:
          weights: see `assign_weights`.
          folder: path of a new folder.

        Raises:
          ValueError: the number or the shapes of the weights differ from the model's.
        """
        given: list[Any] = []
        for kind, specs in zip(("trainable", "non_trainable"), self._kinds):
            values = list(getattr(weights, kind))
            check_shapes(kind, specs, values)
            given += [tf.convert_to_tensor(v, s.dtype) for v, s in zip(values, specs)]
        folder.mkdir()
        for inner in self._folders:
            (folder / inner).mkdir(parents=True, exist_ok=True)
        for name, content in self._files.items():
            (folder / name).write_bytes(content)
        entries = {**self._entries, **dict(zip(self._places, given))}
        tf.raw_ops.SaveV2(
            prefix=str(folder / _VARIABLES),
            tensor_names=list(entries),
            shape_and_slices=[""] * len(entries),
            tensors=[tf.convert_to_tensor(value) for value in entries.values()],
        )
        _tff_compat.write_fingerprint(str(folder))


def of_task(task: Task) -> Optional[SavedModelFiles]:
    """Returns the files of a task's model; None if the model is not the toolkit's."""
    builder = known_builders.key_of(task.build_model)
    if builder is None:
        return None

    def make() -> Optional[SavedModelFiles]:
        # The checkpoint gets other weights.
        build = task.build_model
        model = models.built_model(build, task.x_spec, any_weights=True)
        if not isinstance(model, tf.keras.Model):
            return None
        try:
            return SavedModelFiles(merged(model))
        except ValueError:
            # Keras saves this model in a way that this module does not know.
            return None

    return known_builders.made_once(("export", builder, repr(task.x_spec)), make)


def _marked(spec: Any, number: int) -> Any:
    """Makes a weight with a mark, by which its place in a checkpoint is found."""
    return np.full(spec.shape, number + 1, spec.dtype.as_numpy_dtype)


def _is_equal(value: Any, marked: Any) -> bool:
    array = np.asarray(value)
    return (
        array.dtype == marked.dtype
        and array.shape == marked.shape
        and bool((array == marked).all())
    )


def _entries(prefix: pathlib.Path) -> dict[str, Any]:
    """Reads the tensors of a checkpoint by name, in the checkpoint's order."""
    reader = tf.train.load_checkpoint(str(prefix))
    return {
        name: reader.get_tensor(name) for name, _ in tf.train.list_variables(prefix)
    }
