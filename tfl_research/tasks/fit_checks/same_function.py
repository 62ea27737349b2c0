"""Checks that a model builder makes the same function of the weights at each call.

The trained, the evaluated and the exported model are built by separate calls. If a
constant of the model differs, such as a matrix of random features, the weights that
were trained with one constant would be evaluated and exported with another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfl_research.data.arrays import structures

if TYPE_CHECKING:
    from tfl_research.models import FunctionalModel
    from tfl_research.tasks.task import Task

# A constant that depends on the seed of a run shows by these other seeds.
SEED, OTHER_SEED = 1_402_937_561, 879_190_747
# Programs round differently: by the largest prediction, and in half precision.
TOLERANCE, _OF_HALVES = 1e-3, 0.1
_HALVES = "float16", "bfloat16"
DIFFER = (
    "the model builder makes another model each time: with the same weights, the "
    "predictions of two models differ; "
    "the trained, the evaluated and the exported model would differ; make what "
    "differs a weight, by add_weight(trainable=False), or draw it with a seed of its "
    "own, as by np.random.default_rng(0)"
)


def check(
    task: Task,
    model: FunctionalModel,
    keras_model: Any,
    probe: Mapping[str, np.ndarray],
    predictions: Any,
) -> None:
    """Compares the model with one that the builder makes at another call.

    Args:
      task: the task with the builder.
      model: the model that is trained.
      keras_model: a Keras model of another call with `SEED`, which gets the weights of
        `model`; None for a model of TFF.
      probe: a few examples.
      predictions: the predictions of `model` with its initial weights.

    Raises:
      ValueError: the weights have other shapes, or the predictions differ.
    """
    import tensorflow as tf

    from tfl_research import models
    from tfl_research.models import global_seed

    if isinstance(task.build_model, models.FunctionalModel) or not callable(
        task.build_model
    ):
        return
    x = tf.nest.map_structure(tf.constant, structures.packed(probe, "x"))
    try:
        if keras_model is not None:
            _check_keras(task, model, keras_model, x, predictions)
        elif not are_close(_of_tff(task, model, x), predictions, TOLERANCE):
            raise ValueError(DIFFER)
    finally:
        # The seed that other builds of the model leave behind.
        global_seed.leave(0)


def _check_keras(
    task: Task, model: FunctionalModel, keras_model: Any, x: Any, predictions: Any
) -> None:
    """Raises ValueError if Keras predicts something else with the same weights."""
    tolerance = tolerance_of(keras_model)
    first = _predicted(keras_model, model, x)
    if are_close(first, predictions, tolerance):
        return
    # Compiled code may round discontinuous functions differently, and a model may draw
    # random numbers in predictions. So Keras' own predictions decide.
    if not are_close(_predicted(keras_model, model, x), first, tolerance):
        return
    from tfl_research import models

    other = models.built_model(task.build_model, task.x_spec, seed=OTHER_SEED)
    if not are_close(_predicted(other, model, x), first, tolerance):
        raise ValueError(DIFFER)


def _of_tff(task: Task, model: FunctionalModel, x: Any) -> Any:
    """Returns predictions of a TFF model of another call."""
    import tensorflow as tf

    from tfl_research import models

    other = models.as_functional(
        task.build_model, task.x_spec, seed=SEED, non_trainable=task.non_trainable
    )
    _check_shapes(other.initial_weights, model.initial_weights)
    _check_shapes(other.initial_state, model.initial_state)
    weights, state = (
        [tf.constant(value) for value in values]
        for values in (model.initial_weights, model.initial_state)
    )
    return other.predict(weights, state, x)


def _predicted(keras_model: Any, model: FunctionalModel, x: Any) -> Any:
    """Returns Keras' predictions with the initial weights of the trained model."""
    import tensorflow as tf

    from tfl_research.models.modules import non_trainable_variables

    for variables, values in (
        (keras_model.trainable_variables, model.initial_weights),
        (non_trainable_variables(keras_model), model.initial_state),
    ):
        _check_shapes([variable.numpy() for variable in variables], values)
        for variable, value in zip(variables, values):
            variable.assign(value)
    tf.random.set_seed(SEED)
    return keras_model(x, training=False)


def _check_shapes(found: Sequence[Any], expected: Sequence[Any]) -> None:
    shapes = [[list(np.shape(w)) for w in weights] for weights in (expected, found)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "the model builder makes another model each time, with weights of shapes "
            f"{shapes[0]} and then {shapes[1]}; expected the same model at each call"
        )


def tolerance_of(keras_model: Any) -> float:
    """Returns how far predictions of equal models may differ, see `are_close`."""
    from tfl_research.models.modules import modules_of

    dtypes = {
        getattr(each, "compute_dtype", "float32")
        for each in (keras_model, *modules_of(keras_model))
    }
    return _OF_HALVES if dtypes & set(_HALVES) else TOLERANCE


def are_close(one: Any, other: Any, tolerance: float) -> bool:
    """Whether predictions are equal up to rounding; texts and integers are equal."""
    import tensorflow as tf

    pairs = list(zip(tf.nest.flatten(one), tf.nest.flatten(other)))
    for values in pairs:
        a, b = (np.asarray(value) for value in values)
        if a.shape != b.shape:
            return False
        if a.dtype.kind in "OSU" or b.dtype.kind in "OSU":
            if not np.array_equal(a, b):
                return False
            continue
        a, b = a.astype(np.float64), b.astype(np.float64)
        largest = np.abs(b[np.isfinite(b)]).max(initial=0.0)
        if not np.allclose(a, b, rtol=0, atol=tolerance * largest, equal_nan=True):
            return False
    return True
