"""Turns models that hold variables into pure functions of their weights."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from tfl_research import _tff_compat
from tfl_research.models.execution.bound_variables import bound
from tfl_research.models.execution.lookups import replaced_tables, tables_in
from tfl_research.models.execution.mixing import (
    has_own_layer,
    may_depend_on_size,
    may_fail_for_padding,
    mixes_examples,
    mixes_predictions,
)
from tfl_research.models.execution.random_draws import drawn_from, random_layers
from tfl_research.models.execution.reached_weights import check_reached
from tfl_research.models.execution.traced_model import traced_model
from tfl_research.models.execution.tracing import inlined_functions, pure_function
from tfl_research.models.functional_model import (
    FunctionalModel,
    check_changing,
    check_non_trainable,
)
from tfl_research.models.layers.normalizations import own_normalizations
from tfl_research.models.layers.recurrent.layers import own_loops
from tfl_research.models.modules import inside

# The base class of Keras' BatchNormalization, of SyncBatchNormalization, and of
# TensorFlow 1's class.
_BATCH_NORMALIZATION = tf.keras.layers.BatchNormalization.__base__


@dataclasses.dataclass(frozen=True)
class VariableModel:
    """A model that holds its weights in variables.

    Attributes:
      held: the object that holds the layers and variables.
      trainable: the trainable variables.
      fixed: the non-trainable variables.
      call: (x, training) -> predictions.
    """

    held: Any
    trainable: Sequence[tf.Variable]
    fixed: Sequence[tf.Variable]
    call: Callable[[Any, bool], Any]


def functional(
    model: VariableModel, x_spec: Any, non_trainable: Optional[str]
) -> FunctionalModel:
    """Traces a model with variables, in training and outside of training.

    Args:
      model: the model, whose variables keep their values.
      x_spec: a batch of inputs.
      non_trainable: see `FunctionalModel.non_trainable`; None for no choice.

    Raises:
      ValueError: the model cannot be a pure function; see `models.from_keras`.
    """
    check_non_trainable(non_trainable)
    trainable, fixed = list(model.trainable), list(model.fixed)
    if not trainable:
        raise ValueError(
            "the model has no trainable weights; expected at least one: set "
            "trainable=True for a layer"
        )
    for variable in (*trainable, *fixed):
        # TensorFlow's kernels end the process for products without an element.
        if variable.shape.num_elements() == 0:
            raise ValueError(
                f"the weight {variable.name} has the shape {list(variable.shape)}, "
                "which holds nothing; expected at least one unit in each layer"
            )
    modules = inside(model.held)
    layers = [m for m in modules if isinstance(m, tf.keras.layers.Layer)]
    keras = [m for m in modules if isinstance(m, tf.keras.Model)]
    whole = [m for m in keras if not any(m in inside(o)[1:] for o in keras)]
    _say_unmeasured(layers)
    tables = tables_in(modules)
    metrics = [pair for m in whole for pair in _metric_values(m, fixed)]

    def call(x: Any, training: bool) -> tuple[Any, Any]:
        before = [len(vars(layer)["_callable_losses"]) for layer in layers]
        predictions = model.call(x, training)
        for layer, count in zip(layers, before):
            if len(vars(layer)["_callable_losses"]) > count:
                raise ValueError(
                    f"layer {layer.name!r} gives add_loss a function when it is "
                    "called, and Keras counts that loss once more after every call; "
                    "expected a tensor, or a function given once in __init__ or build"
                )
        losses = [loss for m in whole for loss in m.losses]
        losses = [tf.cast(tf.reduce_sum(loss), tf.float32) for loss in losses]
        return predictions, tf.add_n(losses) if losses else None

    @contextmanager
    def prepared(seed: tf.Tensor) -> Iterator[Any]:
        with ExitStack() as stack:
            stack.enter_context(replaced_tables(tables))
            stack.enter_context(inlined_functions(modules))
            stack.enter_context(own_loops(modules))
            stack.enter_context(own_normalizations(modules))
            stack.enter_context(
                bound([v for v, _ in metrics], [tf.constant(c) for _, c in metrics])
            )
            if non_trainable == "frozen":
                stack.enter_context(_statistics_in_use(layers))
            yield stack.enter_context(drawn_from(seed, modules[1:]))

    traced = traced_model(
        call,
        prepared,
        trainable=trainable,
        fixed=fixed,
        x_spec=x_spec,
        keeps_state=non_trainable == "frozen",
        modules=modules[1:],
    )
    changing = traced.changing
    weight_names, names = (
        tuple(variable.name.partition(":")[0] for variable in variables)
        for variables in (trainable, fixed)
    )
    check_changing(
        [names[index] for index in changing],
        [fixed[index].dtype for index in changing],
        non_trainable,
    )
    functional = FunctionalModel(
        tuple(w.numpy() for w in trainable),
        traced.forward,
        is_random=bool(random_layers(modules)) or traced.draws > 0,
        initial_state=tuple(w.numpy() for w in fixed),
        has_penalty=traced.has_penalty,
        changing=changing,
        state_names=names,
        non_trainable=non_trainable or "frozen",
        constrain=_constraints(trainable),
        scales_loss=any(layer.compute_dtype == "float16" for layer in layers),
        weight_names=weight_names,
    )
    if traced.has_custom_gradient:
        check_reached(functional, trainable, fixed, model.call, x_spec)
    mixes = mixes_examples(
        functional, x_spec, layers, by_gradient=traced.has_custom_gradient
    )
    known = layers if isinstance(model.held, tf.keras.layers.Layer) else None
    mixes_later = mixes_predictions(functional, x_spec, known)
    return dataclasses.replace(
        functional,
        mixes_examples=mixes,
        drops_padding=mixes or may_depend_on_size(functional, x_spec, layers),
        repeats_for_padding=may_fail_for_padding(layers),
        mixes_predictions=mixes_later,
        predicts_no_padding=mixes_later or has_own_layer(known),
    )


@contextmanager
def _statistics_in_use(layers: Sequence[Any]) -> Iterator[None]:
    """Makes BatchNormalization normalize by its statistics, also in training."""
    changed = []
    try:
        for layer in layers:
            if isinstance(layer, _BATCH_NORMALIZATION):
                changed.append(layer)
                layer.call = _without_training(layer.call)
        yield
    finally:
        for layer in changed:
            del layer.call


def _without_training(call: Callable[..., Any]) -> Callable[..., Any]:
    def inference(inputs: Any, training: Any = None, mask: Any = None) -> Any:
        del training
        return call(inputs, training=False)

    return inference


def _metric_values(
    model: Any, fixed: Sequence[tf.Variable]
) -> list[tuple[tf.Variable, np.ndarray]]:
    """Returns the variables of metrics that layers add in their call, with values."""
    weights = {id(variable) for variable in fixed}
    return [
        (_tff_compat.resource_variable(v), v.numpy())
        for metric in model.metrics
        for v in metric.variables
        if id(v) not in weights
    ]


def _say_unmeasured(layers: Sequence[Any]) -> None:
    """Warns of metrics that layers add by `add_metric`."""
    added = [
        metric.name
        for layer in layers
        if not isinstance(layer, tf.keras.Model)
        for metric in layer.metrics
    ]
    if added:
        warnings.warn(
            f"the model's layers add the metrics {', '.join(sorted(set(added)))}, but "
            "these are not measured; give metrics to the task's objective",
            stacklevel=2,
        )


def _constrained(constraint: Callable[[Any], Any], weight: tf.Tensor) -> tf.Tensor:
    """Returns a weight's constraint; a variable that it makes becomes a constant."""

    def initial(_: Any, **arguments: Any) -> tf.Tensor:
        value = arguments["initial_value"]
        return tf.convert_to_tensor(value() if callable(value) else value)

    with tf.variable_creator_scope(initial):
        return constraint(weight)


def _constraints(
    variables: Sequence[tf.Variable],
) -> Optional[Callable[[Sequence[tf.Tensor]], list[tf.Tensor]]]:
    """Returns a function that applies the variables' constraints, or None."""
    traced = {
        index: pure_function(
            lambda w, constraint=variable.constraint: [_constrained(constraint, w)],
            [tf.TensorSpec(variable.shape, variable.dtype)],
            f"the constraint of {variable.name}",
        )
        for index, variable in enumerate(variables)
        if variable.constraint is not None
    }
    if not traced:
        return None

    def constrain(weights: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return [
            tf.ensure_shape(traced[index](w)[0], w.shape) if index in traced else w
            for index, w in enumerate(weights)
        ]

    return constrain
