"""Checks whether a model's head fits an objective, on some real examples."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfl_research.data import derived_generator
from tfl_research.data.arrays import structures
from tfl_research.errors import UserError
from tfl_research.tasks.fit_checks import same_function

if TYPE_CHECKING:
    from tfl_research.models import FunctionalModel
    from tfl_research.tasks.objectives import Objective
    from tfl_research.tasks.objectives.rules import Rule
    from tfl_research.tasks.task import Task

_RANDOM_WEIGHTS = 3


def keras_model(task: Task) -> Any:
    """Builds the task's model; returns None if it is not a Keras model."""
    import tensorflow as tf

    from tfl_research import models

    if isinstance(task.build_model, models.FunctionalModel) or not callable(
        task.build_model
    ):
        return None
    built = models.built_model(task.build_model, task.x_spec, seed=same_function.SEED)
    return built if isinstance(built, tf.keras.Model) else None


def compare_losses(
    task: Task,
    model: FunctionalModel,
    objective: Objective,
    probe: Mapping[str, np.ndarray],
) -> None:
    """Warns which loss counts, if the loss of a TFF model differs from the task's.

    Raises:
      UserError: the losses differ, and nobody has named the task's objective.
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


def predictions(
    client_id: str, model: FunctionalModel, probe: Mapping[str, np.ndarray]
) -> list[Any]:
    """Computes predictions with the model's initial weights, and with other weights.

    Raises:
      ValueError: a kernel fails, or refuses the model's types.
    """
    import tensorflow as tf

    from tfl_research.runtime.rounds import failures

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


def checked(
    objective: Objective,
    keras_model: Any,
    probe: Mapping[str, np.ndarray],
    predictions: Sequence[Any],
) -> list[tuple[str, Rule, tuple[int, ...]]]:
    """Checks heads; returns label rules by array, and an example's output shapes.

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
    used = {part.label for part in objective.parts}
    without = [n for n in probe if n.partition("/")[0] == "y" and n not in used]
    if used and without:
        warnings.warn(
            f"labels {', '.join(without)} have no loss, so nothing is learned from "
            "them; give them a loss, or leave them out of the data",
            stacklevel=2,
        )
    for name, rule, shape in rules:
        # If examples of the probe are wrong themselves, `check` reports them.
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
    """Returns the initial weights, and some random weights around them."""
    generator = derived_generator("heads", 0)
    found = [list(initial)]
    for _ in range(_RANDOM_WEIGHTS if initial else 0):
        noise = [generator.normal(size=w.shape).astype(w.dtype) for w in initial]
        found.append([w + n for w, n in zip(initial, noise)])
    return found
