"""Turns Keras models into pure functions of their weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Optional

import tensorflow as tf

from tfl_research import _tff_compat
from tfl_research.errors import users_line
from tfl_research.models import global_seed
from tfl_research.models.execution.tracing import one_line
from tfl_research.models.execution.variable_model import VariableModel, functional
from tfl_research.models.functional_model import FunctionalModel
from tfl_research.models.modules import modules_of, non_trainable_variables

# The module of the classes that Keras makes for a SavedModel without its code.
_REVIVED = "saved_model.load"
# Methods by which a model can change how it trains, is evaluated, or predicts.
_OWN_WAYS = (
    "train_step",
    "compute_loss",
    "make_train_function",
    "fit",
    "test_step",
    "predict_step",
)


def initialized(build_model: Callable[[], Any], seed: int) -> Any:
    """Builds a new Keras model whose initial weights are a pure function of `seed`.

    The process-wide generators of Python and NumPy do not change. TensorFlow's global
    seed is set, since TensorFlow cannot restore an earlier seed.
    """
    with global_seed.seeded(seed):
        return build_model()


def built_model(
    build_model: Callable[[], Any],
    x_spec: Any,
    *,
    seed: int = 0,
    any_weights: bool = False,
) -> Any:
    """Builds a new Keras model with its weights, even if only a call creates them.

    Args:
      build_model: makes a new Keras model.
      x_spec: a batch of inputs, a `tf.TensorSpec` or a structure of them.
      seed: seed of the initial weights.
      any_weights: whether nobody uses the initial weights. If so, the seed need not be
        set, and a sweep does not prepare its functions again; see `global_seed`.

    Raises:
      ValueError: the builder fails, or returns a model or trainable weights that
        existed before.
    """
    created = []

    def record(create: Callable[..., Any], **arguments: Any) -> Any:
        created.append(create(**arguments))
        return created[-1]

    def build() -> Any:
        model = build_model()
        if isinstance(model, tf.keras.Model) and not model.built:
            model(tf.nest.map_structure(_zeros, x_spec))
        return model

    with tf.variable_creator_scope(record):
        try:
            with (global_seed.left if any_weights else global_seed.seeded)(seed):
                model = build()
        except Exception as error:  # Of a user's function: any.
            line = users_line(error)
            if isinstance(error, ValueError) and "\n" not in str(error) and not line:
                raise
            raise ValueError(
                f"the model builder fails: {one_line(error)}{line}"
            ) from error
    if isinstance(model, tf.keras.Model):
        _check_new(model, created)
    return model


def _check_new(model: Any, created: Sequence[tf.Variable]) -> None:
    """Checks that the model and its trainable weights are new.

    Raises:
      ValueError: the model, or a trainable weight, existed before.
    """
    if model.variables and not created:
        raise ValueError(
            "the model builder returns the same model each time; expected a new model"
        )
    new = {id(_tff_compat.resource_variable(v)) for v in created}
    for variable in model.trainable_variables:
        if id(_tff_compat.resource_variable(variable)) not in new:
            raise ValueError(
                f"the weight {variable.name} was there before the model builder was "
                "called, so a new model would start with the weights of the previous "
                "model; expected that the function makes all layers that are trained"
            )


def _zeros(spec: tf.TensorSpec) -> tf.Tensor:
    shape = [1 if size is None else size for size in spec.shape.as_list()]
    if spec.dtype == tf.string:
        return tf.fill(shape, "")
    return tf.zeros(shape, spec.dtype)


def from_keras(
    build_model: Callable[[], Any],
    x_spec: Any,
    *,
    seed: int = 0,
    non_trainable: Optional[str] = None,
) -> FunctionalModel:
    """Wraps a Keras model builder as a pure function of its weights.

    The function has everything that the model declares: penalties and `add_loss`,
    constraints, trainable flags, non-trainable weights, masks, mixed precision (in
    float16 with a scaled loss, see `clients.loss_scale`). Random layers draw from the
    run's seed. Lookup tables and adapted layers become constants. The task's objective
    has the loss, so `compile` is not read. Call this function outside of graphs.

    Args:
      build_model: makes a new Keras model (functional, sequential or subclassed).
      x_spec: a batch of inputs, `[batch, ...]`, or a dict of them; the batch size may
        be None.
      seed: seed of the initial weights.
      non_trainable: what happens to non-trainable weights that training changes, see
        `FunctionalModel.non_trainable`. "frozen" also makes BatchNormalization
        normalize by its statistics in training, as `layer.trainable = False` does.

    Raises:
      ValueError: the builder returns no Keras model, or the same model at each call;
        the model has its own `train_step` or a similar method, which clients would not
        run; an operation is not pure; or training changes non-trainable weights, and
        `non_trainable` is None.

    Example:
      >>> import tensorflow as tf
      >>> def build_model():
      ...     layers = [tf.keras.Input([3]), tf.keras.layers.Dense(2)]
      ...     return tf.keras.Sequential(layers)
      >>> model = models.from_keras(build_model, tf.TensorSpec([None, 3]))
      >>> [w.shape for w in model.initial_weights]
      [(3, 2), (2,)]
    """

    return of_keras_model(
        built_model(build_model, x_spec, seed=seed), x_spec, non_trainable
    )


def of_keras_model(
    model: Any, x_spec: Any, non_trainable: Optional[str] = None
) -> FunctionalModel:
    """Turns a built Keras model into a pure function; see `from_keras`."""
    _check(model)
    return functional(
        VariableModel(
            model,
            model.trainable_variables,
            non_trainable_variables(model),
            lambda x, training: model(x, training=training),
        ),
        x_spec,
        non_trainable,
    )


def _check(model: Any) -> None:
    """Refuses objects that are no Keras model, and models with their own training."""
    if not isinstance(model, tf.keras.Model):
        raise ValueError(
            f"the model builder returned a {type(model).__name__}; expected a "
            "tf.keras.Model"
        )
    for each in (model, *modules_of(model)):
        if type(each).__module__.endswith(_REVIVED):
            raise ValueError(
                f"{type(each).__name__} {each.name!r} was loaded from a SavedModel "
                "without the code of its class, so that its stored graph keeps weights "
                "of its own; build it by its class and load its weights, or give "
                "load_model(..., custom_objects=...)"
            )
    if not model._is_compiled:
        # load_model(..., compile=False) leaves a part of a SavedModel's optimizer.
        model.optimizer = None
    if model.optimizer is not None:
        raise ValueError(
            "the model is compiled, and federated training would not use its loss and "
            "optimizer; expected a model that is not compiled: leave out compile(), or "
            "give load_model(..., compile=False)"
        )
    for layer in modules_of(model):
        if isinstance(layer, tf.keras.layers.RNN) and layer.stateful:
            raise ValueError(
                f"layer {layer.name!r} is stateful: a batch would depend on the batch "
                "before, maybe of another client; expected stateful=False"
            )
    for method in _OWN_WAYS:
        kind = next(k for k in type(model).__mro__ if method in vars(k))
        if kind is not tf.keras.Model or method in vars(model):
            raise ValueError(
                f"{type(model).__name__}.{method} is the model's own way to train, "
                "evaluate or predict, which clients would not run; expected a model "
                f"with Keras' {method}: put the loss into the task's objective and "
                "penalties into add_loss"
            )
