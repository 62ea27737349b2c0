"""Checks where data and model meet: heads, labels and token ids.

A head that does not fit the loss, labels that the loss does not take, and token ids
that an embedding lacks would train to nonsense, and differently under each compiler. So
they are refused before anything is trained, on every runtime.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from tfl_research.data import ClientData, Examples, derived_generator, structures
from tfl_research.errors import UserError

if TYPE_CHECKING:
    from tfl_research.models import FunctionalModel
    from tfl_research.tasks.objectives import Objective
    from tfl_research.tasks.objectives.rules import Rule
    from tfl_research.tasks.task import Task

# Examples on which heads are checked, and clients that are loaded to find some.
_PROBED, _SEARCHED = 8, 20
_RANDOM_WEIGHTS = 3


class Fitting:
    """Whether a task's data, model and objective fit together.

    A task and its copies with other clients share one. The model is checked when it is
    first made. Clients are checked once each: those in memory with the model, others
    when they are first in a cohort or an evaluation, or before a private run.

    Args:
      build_model, build_objective: the functions of the task that build them.
    """

    def __init__(
        self,
        build_model: Optional[Callable[[], Any]] = None,
        build_objective: Optional[Callable[[], Objective]] = None,
    ):
        self._of = build_model, build_objective
        self._is_checked = False
        self._rules: list[tuple[str, Rule, tuple[int, ...]]] = []
        self._ids: Any = None
        self._floats: Any = None
        self._seen: set[tuple[str, str]] = set()

    def of(
        self, build_model: Callable[[], Any], build_objective: Callable[[], Objective]
    ) -> Fitting:
        """This object if model and objective are the same, otherwise a new one."""
        if self._of[0] is build_model and self._of[1] is build_objective:
            return self
        return Fitting(build_model, build_objective)

    def check(self, client_id: str, examples: Examples, split: str = "train") -> None:
        """Checks a client's labels and token ids, once, if the model is known.

        Raises:
          UserError: names the client, the row, the value and the fix.
        """
        if (split, client_id) in self._seen or not self._is_checked:
            return
        for name, rule, shape in self._rules:
            labels = np.asarray(examples[name])
            wrong = rule.wrong_label(labels, shape) if len(labels) else None
            if wrong is not None:
                raise UserError(
                    f"client {client_id!r}, {name} row {wrong}{_counted(split)}"
                )
        self._check_ids(client_id, examples, split)
        self._seen.add((split, client_id))

    def check_everyone(self, task: Task) -> None:
        """Checks all clients, if the model is known; each is loaded.

        Raises:
          UserError: see `check`.
        """
        for split, clients in _splits(task).items():
            for client_id, held in clients.different_items():
                self.check(client_id, held, split)

    def _check_ids(self, client_id: str, examples: Examples, split: str) -> None:
        wrong = self._wrong_input(examples)
        if wrong is not None:
            raise UserError(f"client {client_id!r}, x row {wrong}{_counted(split)}")

    def _wrong_input(self, examples: Examples) -> Any:
        """The first row that the model does not take, or None."""
        wrong = None if self._ids is None else self._ids.wrong_id(examples)
        if wrong is None and self._floats is not None:
            wrong = self._floats.wrong_number(examples)
        return wrong

    def check_model(self, task: Task, model: FunctionalModel) -> None:
        """Checks the model's head on some real examples, and all clients in memory.

        Raises:
          UserError: the head, a label or a token does not fit; the first line says
            what to change.
        """
        if self._is_checked:
            return
        found = _probe(task)
        if found is None:
            return
        split, client_id, examples = found
        probe = {n: np.asarray(array)[:_PROBED] for n, array in examples.items()}
        keras_model = _keras_model(task)
        if keras_model is not None:
            from tfl_research.tasks.embedded_ids import EmbeddedIds
            from tfl_research.tasks.float_inputs import FloatInputs

            self._floats = FloatInputs(keras_model, examples)
            self._ids = EmbeddedIds(keras_model)
            self._check_ids(client_id, probe, split)
        if structures.num_examples(probe) == 1:
            probe = self._with_others(task, probe)
        objective = task.build_objective()
        try:
            predictions = _predictions(client_id, model, probe)
            self._rules = _checked_heads(objective, keras_model, probe, predictions)
        except ValueError as error:
            raise UserError(f"task {task.name}: {error}") from error
        if keras_model is None:
            _compare_losses(task, model, objective, probe)
        self._is_checked = True
        self.check(client_id, examples, split)
        for split, clients in _splits(task).items():
            if clients.in_memory:
                for client_id, held in clients.different_items():
                    self.check(client_id, held, split)

    def _with_others(
        self, task: Task, probe: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """An example with those of other clients.

        One example alone does not show whether a loss or a metric mixes examples.
        """
        shapes = {name: array.shape[1:] for name, array in probe.items()}
        found = [probe]
        for clients in _splits(task).values():
            for client_id in clients.here[:_SEARCHED]:
                held = structures.example_arrays(clients.load(client_id))
                more = {n: np.asarray(array)[:_PROBED] for n, array in held.items()}
                alike = {n: array.shape[1:] for n, array in more.items()} == shapes
                if alike and self._wrong_input(more) is None:
                    found.append(more)
        return {n: np.concatenate([f[n] for f in found])[:_PROBED] for n in shapes}


def _counted(split: str) -> str:
    """Where the rows of an error are counted, if a client's examples were divided."""
    parts = {"train": "training", "eval": "test"}
    return f"; rows are those of its {parts[split]} split" if split in parts else ""


def _splits(task: Task) -> dict[str, ClientData]:
    splits = {
        "train": task.train,
        "eval": task.test,
        "held_out": task.held_out,
        **task.further_splits,
    }
    return {name: split for name, split in splits.items() if split is not None}


def _probe(task: Task) -> Optional[tuple[str, str, Examples]]:
    """The first client that has examples: split, id and arrays with a row for each."""
    for split, clients in _splits(task).items():
        for client_id in clients.here[:_SEARCHED]:
            held = clients.load(client_id)
            arrays = structures.example_arrays(held)
            if structures.num_examples(arrays):
                return split, client_id, arrays
    return None


def _keras_model(task: Task) -> Any:
    """A model of Keras that the task's builder makes; None for other models."""
    import tensorflow as tf

    from tfl_research import models

    if isinstance(task.build_model, models.FunctionalModel) or not callable(
        task.build_model
    ):
        return None
    built = models.built_model(task.build_model, task.x_spec)
    return built if isinstance(built, tf.keras.Model) else None


def _compare_losses(
    task: Task,
    model: FunctionalModel,
    objective: Objective,
    probe: Mapping[str, np.ndarray],
) -> None:
    """Says which loss counts, if a model of TFF has another one than the task.

    Raises:
      UserError: the task's objective is not named.
    """
    from tfl_research.tasks.objectives import of_tff_models

    x = structures.packed(probe, "x")
    predictions = model.predict(model.initial_weights, model.initial_state, x)
    differs = of_tff_models.difference(task.build_model, objective, probe, predictions)
    if differs is None:
        return
    if objective.is_assumed:
        raise UserError(
            f"task {task.name}: no objective is given, and the model's own loss is "
            f"not the loss of objective='classification' ({differs}); give "
            "objective='model' for the model's loss and metrics, or name another "
            "objective"
        )
    warnings.warn(
        f"task {task.name}: the task's objective is used, not the loss of the TFF "
        f"model, which differs ({differs})",
        stacklevel=2,
    )


def _predictions(
    client_id: str, model: FunctionalModel, probe: Mapping[str, np.ndarray]
) -> list[Any]:
    """What the model predicts with its first weights, and with other weights.

    Raises:
      ValueError: a kernel fails, or refuses the model's types.
    """
    import tensorflow as tf

    from tfl_research.runtime import failures

    x = tf.nest.map_structure(tf.constant, structures.packed(probe, "x"))
    state = [tf.constant(value) for value in model.initial_state]
    try:
        return [
            model.predict([tf.constant(w) for w in weights], state, x)
            for weights in _weights(model.initial_weights)
        ]
    except tf.errors.OpError as error:
        raise ValueError(
            f"the model fails on the first examples of client {client_id!r}: "
            f"{failures.message(error)}"
        ) from error


def _checked_heads(
    objective: Objective,
    keras_model: Any,
    probe: Mapping[str, np.ndarray],
    predictions: Sequence[Any],
) -> list[tuple[str, Rule, tuple[int, ...]]]:
    """The rules of labels, by array, with the shape of an example's outputs.

    Raises:
      ValueError: a head does not fit.
    """
    import tensorflow as tf

    from tfl_research.tasks import objectives

    if keras_model is not None:
        x = tf.nest.map_structure(tf.constant, structures.packed(probe, "x"))
        objective.check_keras_model(keras_model, x)
    rules = []
    for part in objective.parts:
        picked = [part.pick(found) for found in predictions]
        if tf.nest.is_nested(picked[0]):
            raise ValueError(
                f"the model has {len(tf.nest.flatten(picked[0]))} outputs, but the "
                "objective has one; give objectives.from_keras a loss for each output"
            )
        outputs = [np.asarray(output) for output in picked]
        if part.label not in probe:
            raise ValueError(
                f"the objective needs labels {part.label!r}, got "
                f"{', '.join(n for n in probe if not n.startswith('x'))}"
            )
        part.rule.check_outputs(probe[part.label], outputs)
        rules.append((part.label, part.rule, outputs[0].shape[1:]))
    for name, rule, shape in rules:
        # The examples of the probe may be wrong themselves, which `check` tells.
        if rule.wrong_label(probe[name], shape) is not None:
            return rules
    losses = objective.losses(
        {name: tf.constant(value) for name, value in probe.items()}, predictions[0]
    )
    count = structures.num_examples(probe)
    if losses.shape != (count,):
        raise ValueError(
            f"the losses of {count} examples have shape {list(losses.shape)}, expected "
            f"{[count]}: one loss for each example"
        )
    if objective.check_examples is not None:
        objective.check_examples(objectives.labels_of(probe), predictions[0])
    return rules


def _weights(initial: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """The initial weights, and some random weights around them."""
    generator = derived_generator("heads", 0)
    found = [list(initial)]
    for _ in range(_RANDOM_WEIGHTS if initial else 0):
        noise = [generator.normal(size=w.shape).astype(w.dtype) for w in initial]
        found.append([w + n for w, n in zip(initial, noise)])
    return found
