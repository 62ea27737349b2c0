"""The loss and the metrics that a model of `tff.learning.models` has itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import _tff_compat, interrupts, models
from tfl_research.data import derived_generator
from tfl_research.data.arrays import structures
from tfl_research.models.execution.tracing import one_line
from tfl_research.tasks.objectives import by_row
from tfl_research.tasks.objectives.from_keras import from_keras
from tfl_research.tasks.objectives.objective import Objective, labels_of

_FIX = "give objective= a loss of Keras, a name or an Objective"


def of_model(build_model: Any) -> Objective:
    """Makes the objective of a TFF model from the model's own loss and metrics.

    For a model of `from_keras_model`, these are the loss and the metrics that the call
    got; penalties belong to the model. For a `FunctionalModel`, only the loss is used:
    its metrics depend on its own state, and are not measured.

    Args:
      build_model: see `Task.build_model`.

    Raises:
      ValueError: the model has no loss of its own, or only the loss of a batch.
    """
    model = _built(build_model)
    if isinstance(model, tff.learning.models.FunctionalModel):
        return from_keras(_example_losses(model))
    if isinstance(model, tff.learning.models.VariableModel):
        parts = _tff_compat.keras_losses_of(model)
        if parts is None:
            raise ValueError(
                f"objective='model': {type(model).__name__} has only the loss of a "
                f"batch, not the losses of examples; {_FIX}"
            )
        losses, weights, metrics = parts
        if len(losses) == 1:
            return from_keras(losses[0], metrics)
        if metrics:
            raise ValueError(
                "objective='model': the metrics of a TFF model with several outputs "
                "do not say which output they are for; give objectives.from_keras "
                "metrics by output"
            )
        return from_keras(losses, loss_weights=weights)
    raise ValueError(
        f"objective='model': a {type(model).__name__} has no loss of its own; {_FIX}"
    )


def difference(
    build_model: Any,
    objective: Objective,
    examples: Mapping[str, np.ndarray],
    predictions: Any,
) -> Optional[str]:
    """Says how the loss of a TFF model differs from an objective; None if it does not.

    The result is also None for models without a loss of their own. If the losses cannot
    be computed for these examples, the result is None too, but only if the user has
    named the objective.

    Args:
      build_model: see `Task.build_model`.
      objective: the objective of the task.
      examples: a few examples by flat name.
      predictions: the predictions of the task's model for them.
    """
    x, y = structures.packed(examples, "x"), labels_of(examples)
    try:
        model = _built(build_model)
        if isinstance(model, tff.learning.models.FunctionalModel):
            pairs = [(model.loss(predictions, y), predictions)]
        elif isinstance(model, tff.learning.models.VariableModel):
            names = isinstance(model.input_spec, Mapping)
            pairs = _losses(model, {"x": x, "y": y} if names else (x, y))
            if _tff_compat.keras_losses_of(model) is not None:
                # The penalties of such a model are not a part of its objective.
                losses = of_model(lambda: model).example_losses
                pairs = [(tf.reduce_mean(losses(y, p)), p) for _, p in pairs]
        else:
            return None
        numbers = [
            (float(own), float(tf.reduce_mean(objective.example_losses(y, found))))
            for own, found in pairs
        ]
    except Exception as error:  # noqa: BLE001 - of a user's model: any
        interrupts.check()
        if objective.is_assumed:
            return f"the model's own loss fails for these labels: {one_line(error)}"
        return None
    for own, theirs in numbers:
        if not np.allclose(own, theirs, rtol=1e-5, atol=1e-6, equal_nan=True):
            # No numbers: a private run must not print a loss of clients' examples.
            return "seen on a few of the clients' examples"
    return None


def _losses(model: Any, batch: Any) -> list[tuple[Any, Any]]:
    """Computes loss and predictions with a model's initial and with other weights.

    A penalty may be 0 for the initial weights, and may count only in training.
    """
    generator = derived_generator("losses", 0)
    variables = list(model.trainable_variables)
    others = [*variables, *model.non_trainable_variables, *model.local_variables]
    before = [variable.numpy() for variable in others]
    found = []
    try:
        for scale in (0.0, 0.5):
            for variable in variables:
                noise = scale * generator.normal(size=variable.shape)
                variable.assign_add(tf.cast(noise, variable.dtype))
            for training in (False, True):
                output = model.forward_pass(batch, training=training)
                found.append((output.loss, output.predictions))
    finally:
        for variable, value in zip(others, before):
            variable.assign(value)
    return found


def _built(build_model: Any) -> Any:
    tff_model = tff.learning.models.FunctionalModel
    if isinstance(build_model, (tff_model, models.FunctionalModel)):
        return build_model
    return models.initialized(build_model, 0)


def _example_losses(model: Any) -> Callable[[Any, Any], tf.Tensor]:
    def own_loss(y: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
        def of_one(example: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            label, output = example
            return model.loss(output[tf.newaxis], label[tf.newaxis])

        return by_row.mapped(of_one, (y, predictions))

    return own_loss
