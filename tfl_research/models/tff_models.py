"""Turns models of `tff.learning.models` into pure functions of their weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.models import global_seed, known_builders
from tfl_research.models.execution.mixing import mixes_predictions
from tfl_research.models.execution.random_draws import drawn_from
from tfl_research.models.execution.tracing import pure_function_of_graph
from tfl_research.models.execution.variable_model import VariableModel, functional
from tfl_research.models.functional_model import Forward, FunctionalModel
from tfl_research.models.keras_model import (
    built_model,
    of_keras_model,
)
from tfl_research.models.modules import non_trainable_variables

# The number of initial weights that are kept for a model; a sweep has a few seeds.
_MOST_SEEDS = 4


def as_functional(
    model: Any, x_spec: Any, *, seed: int = 0, non_trainable: Optional[str] = None
) -> FunctionalModel:
    """Turns any kind of model into a pure function of its weights.

    The function has the weights, the predictions and Keras' penalties of a TFF model.
    The task's objective has the loss and the metrics. It can be the TFF model's own
    objective (`tasks.from_arrays(objective="model")`).

    Args:
      model: a function without arguments that returns a new Keras model, a
        `tff.learning.models.VariableModel` (such as the `model_fn` of
        `from_keras_model`) or a `tff.learning.models.ReconstructionModel`; or a
        `tff.learning.models.FunctionalModel`; or a `models.FunctionalModel`. The
        weights of a reconstruction model are its global weights, and then its local
        weights.
      x_spec: a batch of inputs, `[batch, ...]`, or a dict of them.
      seed: seed of the initial weights; functional models have their own.
      non_trainable: what happens to non-trainable weights that training changes, see
        `FunctionalModel.non_trainable`.

    Raises:
      ValueError: the model is of another kind, or `models.from_keras` refuses it.
    """
    if isinstance(model, FunctionalModel):
        return model
    if isinstance(model, tff.learning.models.FunctionalModel):
        return _of_functional_model(model, x_spec)
    if not callable(model):
        raise ValueError(
            f"expected a function that returns a new model, got a {_kind(model)}"
        )
    builder = known_builders.key_of(model)
    if builder is not None:
        return _of_known(model, builder, x_spec, seed, non_trainable)
    return _of_built(built_model(model, x_spec, seed=seed), x_spec, non_trainable)


def _of_known(
    model: Callable[[], Any],
    builder: Hashable,
    x_spec: Any,
    seed: int,
    non_trainable: Optional[str],
) -> FunctionalModel:
    """Returns one of the toolkit's own models, which is traced once.

    Only the initial weights depend on the seed.
    """
    key = ("functional", builder, repr(x_spec), non_trainable)
    seeds: dict[int, FunctionalModel] = known_builders.made_once(key, dict)
    if seed in seeds:
        # Building the model would have set this seed.
        global_seed.leave(seed)
        return _with_own_weights(seeds[seed])
    built = built_model(model, x_spec, seed=seed)
    if not seeds:
        found = _of_built(built, x_spec, non_trainable)
    else:
        found = dataclasses.replace(
            next(iter(seeds.values())),
            initial_weights=tuple(w.numpy() for w in built.trainable_variables),
            initial_state=tuple(w.numpy() for w in non_trainable_variables(built)),
        )
    if len(seeds) < _MOST_SEEDS:
        seeds[seed] = _with_own_weights(found)
    return found


def _with_own_weights(model: FunctionalModel) -> FunctionalModel:
    """The model with copies of its initial weights, which its user may change."""
    return dataclasses.replace(
        model,
        initial_weights=tuple(np.array(w) for w in model.initial_weights),
        initial_state=tuple(np.array(w) for w in model.initial_state),
    )


def _of_built(built: Any, x_spec: Any, non_trainable: Optional[str]) -> FunctionalModel:
    if isinstance(built, (FunctionalModel, tff.learning.models.FunctionalModel)):
        return as_functional(built, x_spec)
    if isinstance(built, tf.keras.Model):
        return of_keras_model(built, x_spec, non_trainable)
    if isinstance(built, tff.learning.models.VariableModel):
        variables = VariableModel(
            built,
            list(built.trainable_variables),
            non_trainable_variables(built),
            lambda x, training: built.predict_on_batch(x, training=training),
        )
        return functional(variables, x_spec, non_trainable)
    if isinstance(built, tff.learning.models.ReconstructionModel):
        return functional(_of_reconstruction_model(built), x_spec, non_trainable)
    raise ValueError(
        f"the model builder returned a {_kind(built)}; expected a tf.keras.Model, or a "
        "VariableModel, ReconstructionModel or FunctionalModel of tff.learning.models"
    )


def _kind(value: Any) -> str:
    return type(value).__name__


def _of_functional_model(model: Any, x_spec: Any) -> FunctionalModel:
    trainable, fixed = (tf.nest.flatten(part) for part in model.initial_weights)
    count = len(trainable) + len(fixed)
    specs = [tf.TensorSpec(w.shape, w.dtype) for w in (*trainable, *fixed)]
    structures, draws, traced = {}, {}, {}
    for training in (True, False):

        def flat(*arguments: tf.Tensor, training: bool = training) -> list[tf.Tensor]:
            weights = tf.nest.pack_sequence_as(
                tuple(model.initial_weights), arguments[:count]
            )
            x = tf.nest.pack_sequence_as(x_spec, arguments[count:-1])
            with drawn_from(arguments[-1], []) as drawn:
                outputs = model.predict_on_batch(weights, x, training)
            structures[training] = tf.nest.map_structure(lambda _: 0, outputs)
            draws[training] = drawn.count
            return tf.nest.flatten(outputs)

        traced[training] = pure_function_of_graph(
            flat,
            [*specs, *tf.nest.flatten(x_spec), tf.TensorSpec([2], tf.int32)],
            "the model",
        )

    def forward(
        weights: Any, state: Any, x: Any, training: bool, seed: tf.Tensor
    ) -> Forward:
        arguments = [*weights, *state, *tf.nest.flatten(x), seed]
        outputs = list(traced[training](*map(tf.convert_to_tensor, arguments)))
        predictions = tf.nest.pack_sequence_as(structures[training], outputs)
        return Forward(predictions, tf.constant(0.0), tuple(state))

    found = FunctionalModel(
        tuple(trainable),
        forward,
        is_random=draws[True] > 0,
        initial_state=tuple(fixed),
        state_names=tuple(f"non_trainable {index}" for index in range(len(fixed))),
        # The user's functions were not tried with other batches, so assume the worst.
        mixes_examples=True,
        drops_padding=True,
        predicts_no_padding=True,
    )
    mixes = mixes_predictions(found, x_spec, None)
    return dataclasses.replace(found, mixes_predictions=mixes)


def _of_reconstruction_model(model: Any) -> VariableModel:
    labels = _labels(model.input_spec)

    def call(x: Any, training: bool) -> Any:
        rows = tf.shape(tf.nest.flatten(x)[0])[0]
        # Labels have no effect on the predictions, but the model needs labels.
        y = tf.nest.map_structure(
            lambda s: tf.zeros(tf.concat([[rows], s.shape[1:]], 0), s.dtype), labels
        )
        return model.forward_pass({"x": x, "y": y}, training=training).predictions

    return VariableModel(
        model,
        [*model.global_trainable_variables, *model.local_trainable_variables],
        [*model.global_non_trainable_variables, *model.local_non_trainable_variables],
        call,
    )


def _labels(input_spec: Any) -> Any:
    return input_spec["y"] if isinstance(input_spec, Mapping) else input_spec[1]
