"""Evaluates and exports the model of a user's own process; imports TensorFlow."""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.errors import SettingError, UserError, users_line
from tfl_research.experiment.own_process.client_values import ProcessClients, clients_of
from tfl_research.program.evaluation.client_metrics import Evaluation
from tfl_research.program.results import keras_saving
from tfl_research.storage import nest
from tfl_research.storage.files import atomic
from tfl_research.storage.metrics import round_metrics
from tfl_research.tasks.fit_checks import same_function
from tfl_research.tasks.metrics import Metric

# Sums of TFF's models that are no metrics.
_COUNTS = ("num_examples", "num_batches")
_KINDS = ("trainable", "non_trainable")


class FunctionEvaluation:
    """Computes metrics by a user's function of the model, or of the state.

    Args:
      function: takes the model (the state, if there is no model), and returns numbers
        by name; `accuracy` becomes the column `eval_accuracy`.
    """

    splits: Sequence[str] = ("eval",)
    # The directions of metrics follow from their names.
    metrics: Mapping[str, Metric] = MappingProxyType({})

    def __init__(self, function: Callable[[Any], Mapping[str, float]]):
        self._function = function

    def evaluate(self, weights: Any, split: str = "eval") -> Evaluation:
        """Returns the function's metrics.

        Raises:
          UserError: the function fails, or returns no numbers by name.
        """
        del split
        try:
            found = self._function(weights)
        except Exception as error:
            what = " ".join(str(error).split())[:200]
            raise UserError(
                f"evaluate failed ({type(error).__name__}: {what}{users_line(error)})"
            ) from error
        if not isinstance(found, Mapping):
            raise UserError(
                f"evaluate returned a {type(found).__name__}; expected numbers by "
                'name, as {"accuracy": 0.5}'
            )
        overall = collections.OrderedDict[str, float]()
        for name, value in found.items():
            array = np.asarray(value)
            if array.size != 1 or array.dtype.kind not in "biufV":
                raise UserError(
                    f"evaluate returned {name} of type {type(value).__name__} and "
                    f"shape {list(array.shape)}; expected a number"
                )
            column = round_metrics.safe_name(str(name))
            if not column or column in overall:
                raise UserError(
                    f"evaluate returned a metric with the name {name!r}, which is "
                    "empty or already used; give each metric its own name"
                )
            overall[column] = float(array.reshape(()))
        return Evaluation(overall, (), np.zeros(0, np.int64), {})


@dataclasses.dataclass(frozen=True)
class BuiltModel:
    """A user's model, whose weights can be replaced.

    Attributes:
      model: a Keras model, or a TFF `VariableModel`.
    """

    model: Any

    @property
    def is_keras(self) -> bool:
        """Whether the model is a Keras model."""
        return isinstance(self.model, tf.keras.Model)

    def predict(self, batch: Any) -> Any:
        """Returns the predictions for a batch; of a TFF model the loss too."""
        if self.is_keras:
            return self.model(_parts(batch)[0], training=False)
        output = self.model.forward_pass(batch, training=False)
        self.model.reset_metrics()
        return [output.loss, output.predictions]

    def assign(self, weights: Any) -> None:
        """Sets the model's weights.

        Raises:
          SettingError: the weights have other shapes.
        """
        for kind in _KINDS:
            variables = list(getattr(self.model, f"{kind}_variables"))
            values = [np.asarray(value) for value in getattr(weights, kind)]
            shapes = [tuple(variable.shape) for variable in variables]
            if shapes != [value.shape for value in values]:
                raise SettingError(
                    f"model: its {kind} weights have shapes {shapes}, but the process "
                    f"trains {[value.shape for value in values]}; give the model that "
                    "the process was built from"
                )
            for variable, value in zip(variables, values):
                variable.assign(value)


def is_builder(model: Any) -> bool:
    """Whether a user's model is a function that makes a model."""
    ready = tf.keras.Model, tff.learning.models.FunctionalModel
    return callable(model) and not isinstance(model, ready)


def built_model(model: Any) -> BuiltModel:
    """Builds the model that a user gave.

    Args:
      model: a function that returns a Keras model or a TFF `VariableModel` (a
        `model_fn`), or a TFF `FunctionalModel`.

    Raises:
      SettingError: the function returns another object.
    """
    if isinstance(model, tff.learning.models.FunctionalModel):
        return BuiltModel(tff.learning.models.model_from_functional(model))
    made = model() if is_builder(model) else model
    if isinstance(made, (tf.keras.Model, tff.learning.models.VariableModel)):
        return BuiltModel(made)
    raise SettingError(
        f"model must be a function that returns a Keras model or a tff.learning model, "
        f"got {type(made).__name__}"
    )


def check_builder(built: BuiltModel, other: BuiltModel, batch: Any) -> None:
    """Compares two models that one function has made.

    Args:
      built: the model of one call.
      other: the model of another call, which gets the weights of `built`.
      batch: a batch of examples, as the models take it.

    Raises:
      SettingError: with the same weights, the predictions of the models differ.
    """
    # Some models have weights only after a call.
    first, _ = built.predict(batch), other.predict(batch)
    kinds = (
        [v.numpy() for v in getattr(built.model, f"{k}_variables")] for k in _KINDS
    )
    other.assign(tff.learning.models.ModelWeights(*kinds))
    # A model may draw random numbers in predictions.
    again, found = built.predict(batch), other.predict(batch)
    tolerance = same_function.TOLERANCE
    if built.is_keras:
        tolerance = same_function.tolerance_of(built.model)
    close = same_function.are_close
    if close(first, again, tolerance) and not close(found, first, tolerance):
        raise SettingError(f"model: {same_function.DIFFER}")


class ModelEvaluation:
    """Computes metrics on the test examples of each client and of all clients together.

    Args:
      built: the model. The metrics are a TFF model's own, or the metrics with which a
        Keras model was compiled.
      test: test datasets by client.

    Raises:
      SettingError: a Keras model is not compiled, or the data have a type that the
        model does not take.
    """

    splits: Sequence[str] = ("eval",)
    # The directions of metrics follow from their names.
    metrics: Mapping[str, Metric] = MappingProxyType({})

    def __init__(self, built: BuiltModel, test: Any):
        self._built = built
        if built.is_keras:
            if not built.model._is_compiled:
                raise SettingError(
                    "model: the Keras model is not compiled, so it has no loss to "
                    "evaluate; compile it with a loss and metrics, give a "
                    "tff.learning model_fn, or leave test out"
                )
            self._clients = _datasets(test)
            return
        spec = built.model.input_spec
        self._clients = clients_of(
            test, None, tff.SequenceType(tff.types.tensorflow_to_type(spec))
        )
        self._forward = tf.function(
            lambda batch: built.model.forward_pass(batch, training=False).num_examples
        )

    def check_builder(self, other: BuiltModel) -> None:
        """Compares the model with another of the same function; see `check_builder`."""
        for client_id in self._clients.client_ids:
            for batch in _elements(self._clients.checked(client_id)):
                check_builder(self._built, other, batch)
                return

    def evaluate(self, weights: Any, split: str = "eval") -> Evaluation:
        """Computes metrics over all examples and by client."""
        del split
        self._built.assign(weights)
        if self._built.is_keras:
            return self._by_keras()
        return self._by_tff()

    def _by_tff(self) -> Evaluation:
        model, clients = self._built.model, self._clients
        finalizers = model.metric_finalizers()
        counts, by_client, total = [], [], None
        for client_id in clients.client_ids:
            model.reset_metrics()
            count = 0
            for batch in _elements(clients.checked(client_id)):
                count += int(self._forward(batch))
            sums = tf.nest.map_structure(
                np.asarray, dict(model.report_local_unfinalized_metrics())
            )
            counts.append(count)
            by_client.append(_final(finalizers, sums))
            total = (
                sums if total is None else tf.nest.map_structure(np.add, total, sums)
            )
        overall = _final(finalizers, total or {})
        return _evaluation(overall, clients.client_ids, counts, by_client)

    def _by_keras(self) -> Evaluation:
        model, clients = self._built.model, self._clients
        counts, by_client = [], []
        for client_id in clients.client_ids:
            found, count = self._tested([clients.checked(client_id)])
            counts.append(count)
            by_client.append(found)
        every = (clients.checked(client_id) for client_id in clients.client_ids)
        overall, _ = self._tested(every)
        model.reset_metrics()
        return _evaluation(overall, clients.client_ids, counts, by_client)

    def _tested(self, datasets: Any) -> tuple[dict[str, float], int]:
        model, count = self._built.model, 0
        model.reset_metrics()
        found: dict[str, float] = {}
        for dataset in datasets:
            for element in _elements(dataset):
                parts = _parts(element)
                found = model.test_on_batch(
                    *parts, reset_metrics=False, return_dict=True
                )
                count += len(tf.nest.flatten(parts[0])[0])
        return dict(found), count


def _datasets(test: Any) -> ProcessClients:
    """Returns the test datasets by client; their elements may have any type."""
    if not isinstance(test, Mapping) or not test:
        raise SettingError(
            "test must be a mapping from client ids to datasets of (x, y), got "
            f"{type(test).__name__}"
        )
    values = {str(name): dataset for name, dataset in test.items()}
    return ProcessClients(tuple(values), None, lambda name, *_: values[name], True)


def _parts(element: Any) -> tuple[Any, ...]:
    """Splits a batch into inputs, labels and weights, as Keras takes them."""
    if isinstance(element, Mapping):
        names = [n for n in ("x", "y", "sample_weight") if n in element]
        if names[:2] == ["x", "y"] and len(names) == len(element):
            return tuple(element[name] for name in names)
    elif isinstance(element, (tuple, list)) and len(element) in (2, 3):
        return tuple(element)
    found = ", ".join(map(str, element)) if isinstance(element, Mapping) else ""
    raise SettingError(
        "test: elements must be batches (x, y), (x, y, sample_weight), or dicts of "
        f"these names, got {found or type(element).__name__}"
    )


def _elements(dataset: Any) -> Iterator[Any]:
    yield from dataset


def _final(finalizers: Mapping[str, Any], sums: Mapping[str, Any]) -> dict[str, float]:
    final: dict[str, float] = {}
    for name, finalizer in finalizers.items():
        if name in sums and name not in _COUNTS:
            # This tf.function makes a metric's variables in each of its calls.
            if isinstance(finalizer, tf.types.experimental.GenericFunction):
                finalizer = finalizer.python_function
            tensors = tf.nest.map_structure(tf.convert_to_tensor, sums[name])
            value = np.asarray(finalizer(tensors))
            if value.ndim == 0:
                final[name] = float(value)
    return final


def _evaluation(
    overall: Mapping[str, float],
    client_ids: Sequence[str],
    counts: Sequence[int],
    by_client: Sequence[Mapping[str, float]],
) -> Evaluation:
    examples = np.array(counts, np.int64)
    per_client = {
        name: np.where(
            examples > 0, [found.get(name, np.nan) for found in by_client], np.nan
        )
        for name in overall
    }
    return Evaluation(dict(overall), tuple(client_ids), examples, per_client)


@dataclasses.dataclass(frozen=True)
class Exporter:
    """Writes a model as a Keras SavedModel, or as `weights.npz`.

    Attributes:
      built: the user's model, or None. Without a Keras model, the folder gets
        `weights.npz`, whose names are the paths of the weights.
      has_model: whether a state has a model; a state without a model is not exported.
    """

    built: Optional[BuiltModel]
    has_model: bool

    def check(self) -> None:
        """Refuses a Keras model that cannot be saved, before the first round."""
        if self.has_model and self.built is not None and self.built.is_keras:
            keras_saving.check(self.built.model)

    def __call__(self, weights: Any, path: pathlib.Path) -> None:
        """Writes the folder `path`, which appears only when it is complete."""
        if not self.has_model:
            return
        temporary = path.with_name(path.name + atomic.TEMPORARY_SUFFIX)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        if self.built is not None and self.built.is_keras:
            self.built.assign(weights)
            keras_saving.save(self.built.model, temporary)
        else:
            np.savez(
                temporary / "weights.npz",
                **{_name(p): _plain(leaf) for p, leaf in nest.named_leaves(weights)},
            )
        atomic.replace_folder(temporary, path)


def _name(path: Sequence[str]) -> str:
    return ".".join(path) or "weights"


def _plain(leaf: Any) -> np.ndarray:
    """Converts a leaf to an array of a type that NumPy's files can hold."""
    array = np.asarray(leaf)
    if array.dtype.kind == "V":
        return array.astype(np.float32)
    if array.dtype.kind == "O":
        return array.astype("S" if isinstance(array.flat[0], bytes) else "U")
    return array
