"""Keras models as pure functions of their weights."""

from __future__ import annotations

import dataclasses
import random
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from tfl_research import _tff_compat
from tfl_research.models.bound_variables import bound
from tfl_research.models.functional_model import (
    Forward,
    FunctionalModel,
    check_changing,
    check_non_trainable,
)
from tfl_research.models.lookups import replaced_tables, tables_in
from tfl_research.models.mixing import mixes_examples
from tfl_research.models.modules import modules_of
from tfl_research.models.random_draws import drawn_from, random_layers
from tfl_research.models.tracing import fresh_functions, pure_function

_WHAT = "the model"
_SEEN: weakref.WeakSet[Any] = weakref.WeakSet()


def initialized(build_model: Callable[[], Any], seed: int) -> Any:
    """A new Keras model whose initial weights are a pure function of `seed`.

    The process-wide generators of Python and NumPy do not change. TensorFlow's global
    seed is set, since TensorFlow cannot restore an earlier seed.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        tf.keras.utils.set_random_seed(seed)
        return build_model()
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def built_model(build_model: Callable[[], Any], x_spec: Any, *, seed: int = 0) -> Any:
    """A new Keras model with weights, also if its first call creates them.

    Args:
      build_model: makes a new Keras model.
      x_spec: a batch of inputs, a `tf.TensorSpec` or a structure of them.
      seed: seed of the initial weights.
    """

    def build() -> Any:
        model = build_model()
        if isinstance(model, tf.keras.Model) and not model.built:
            model(tf.nest.map_structure(_zeros, x_spec))
        return model

    return initialized(build, seed)


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

    Whatever the model declares counts: penalties and `add_loss`, constraints, trainable
    flags, non-trainable weights, masks, mixed precision. Its random layers draw from
    the run's seed. Lookup tables and adapted layers become constants. Nothing of
    `compile` is read: the task's objective has the loss. Call this function outside of
    graphs.

    Args:
      build_model: makes a new Keras model (functional, sequential or subclassed).
      x_spec: a batch of inputs, `[batch, ...]`, or a dict of them; the batch size may
        be None.
      seed: seed of the initial weights.
      non_trainable: what happens to non-trainable weights that training changes, see
        `FunctionalModel.non_trainable`. "frozen" also makes BatchNormalization
        normalize by its statistics in training, as `layer.trainable = False` does.

    Raises:
      ValueError: no Keras model; the same model at each call; a `train_step` or the
        like of its own, which federated clients would not run; operations that are
        not pure; training changes non-trainable weights, and there is no choice for
        them.

    Example:
      >>> import tensorflow as tf
      >>> def build_model():
      ...     layers = [tf.keras.Input([3]), tf.keras.layers.Dense(2)]
      ...     return tf.keras.Sequential(layers)
      >>> model = models.from_keras(build_model, tf.TensorSpec([None, 3]))
      >>> [w.shape for w in model.initial_weights]
      [(3, 2), (2,)]
    """
    check_non_trainable(non_trainable)
    model = built_model(build_model, x_spec, seed=seed)
    _check(model)
    trainable = list(model.trainable_variables)
    fixed = list(model.non_trainable_variables)
    modules = [model, *modules_of(model)]
    layers = [m for m in modules if isinstance(m, tf.keras.layers.Layer)]
    tables, metrics = tables_in(modules), _metric_values(model, fixed)
    if not trainable:
        raise ValueError(
            "the model has no trainable weights; expected at least one: set "
            "trainable=True for a layer"
        )

    def call(x: Any, training: bool) -> tuple[Any, Any]:
        predictions = model(x, training=training)
        losses = [tf.cast(tf.reduce_sum(loss), tf.float32) for loss in model.losses]
        return predictions, tf.add_n(losses) if losses else None

    @contextmanager
    def prepared(seed_tensor: tf.Tensor) -> Iterator[Any]:
        with ExitStack() as stack:
            stack.enter_context(replaced_tables(tables))
            stack.enter_context(fresh_functions(modules))
            stack.enter_context(
                bound([v for v, _ in metrics], [tf.constant(c) for _, c in metrics])
            )
            if non_trainable == "frozen":
                stack.enter_context(_statistics_in_use(layers))
            yield stack.enter_context(drawn_from(seed_tensor, modules[1:]))

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
    check_changing(
        [_name_of(fixed[index]) for index in changing],
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
        state_names=tuple(_name_of(w) for w in fixed),
        non_trainable=non_trainable or "frozen",
        constrain=_constraints(trainable),
    )
    return dataclasses.replace(
        functional, mixes_examples=mixes_examples(functional, x_spec, layers)
    )


@dataclasses.dataclass(frozen=True)
class TracedModel:
    """A model's traced functions.

    Attributes:
      forward: see `FunctionalModel.forward`.
      changing: indices of the non-trainable weights that training changes.
      has_penalty: whether there are penalties.
      draws: number of random draws in training.
    """

    forward: Callable[..., Forward]
    changing: tuple[int, ...]
    has_penalty: bool
    draws: int


def traced_model(
    call: Callable[[Any, bool], tuple[Any, Any]],
    prepared: Callable[[tf.Tensor], Any],
    *,
    trainable: Sequence[tf.Variable],
    fixed: Sequence[tf.Variable],
    x_spec: Any,
    keeps_state: bool = False,
    modules: Sequence[Any] = (),
) -> TracedModel:
    """Traces a model that holds variables, in training and outside of training.

    Args:
      call: (x, training) -> predictions and penalty (None without penalties).
      prepared: seed -> a context in which the model is traced, with the random draws.
      trainable: the trainable variables.
      fixed: the non-trainable variables.
      x_spec: a batch of inputs.
      keeps_state: whether what `call` assigns to `fixed` is discarded.
      modules: the model's layers, which messages name.
    """
    variables = [_tff_compat.resource_variable(v) for v in (*trainable, *fixed)]
    weight_specs = [tf.TensorSpec(v.shape, v.dtype) for v in variables]
    count, structures, facts = len(variables), {}, {}
    traced = {}
    for training in (True, False):

        def flat(*arguments: tf.Tensor, training: bool = training) -> list[tf.Tensor]:
            seed = arguments[-1]
            x = tf.nest.pack_sequence_as(x_spec, arguments[count:-1])
            with bound(variables, arguments[:count]) as values:
                with prepared(seed) as draws:
                    predictions, penalty = call(x, training)
                predictions = tf.nest.map_structure(_in_float32, predictions)
                assigned = values.assigned()
                after = values.tensors()
            _check_assigned(trainable, assigned)
            structures[training] = predictions
            changes = training and not keeps_state
            changing = [
                index
                for index in range(len(fixed))
                if changes and assigned[len(trainable) + index]
            ]
            facts[training] = (penalty is not None, draws.count, tuple(changing))
            state = [after[len(trainable) + index] for index in changing]
            penalties = [] if penalty is None else [penalty]
            return [*tf.nest.flatten(predictions), *penalties, *state]

        traced[training] = pure_function(
            flat,
            [*weight_specs, *tf.nest.flatten(x_spec), tf.TensorSpec([2], tf.int32)],
            _WHAT,
            modules,
        )

    def forward(
        weights: Sequence[tf.Tensor],
        state: Sequence[tf.Tensor],
        x: Any,
        training: bool,
        seed: tf.Tensor,
    ) -> Forward:
        inputs = tf.nest.flatten(x)
        results = list(traced[training](*weights, *state, *inputs, seed))
        structure = structures[training]
        outputs = len(tf.nest.flatten(structure))
        predictions = tf.nest.pack_sequence_as(structure, results[:outputs])
        has_penalty, _, changing = facts[training]
        penalty = results[outputs] if has_penalty else tf.constant(0.0)
        new = dict(zip(changing, results[outputs + has_penalty :]))
        state = tuple(new.get(index, old) for index, old in enumerate(state))
        return Forward(predictions, penalty, state)

    has_penalty, draws, changing = facts[True]
    return TracedModel(forward, changing, has_penalty, draws)


def _in_float32(output: Any) -> tf.Tensor:
    if isinstance(output, (tf.RaggedTensor, tf.SparseTensor)):
        raise ValueError(
            f"the model's output is a {type(output).__name__}; expected dense tensors"
        )
    half = output.dtype in (tf.float16, tf.bfloat16)
    return tf.cast(output, tf.float32) if half else output


def _check_assigned(trainable: Sequence[tf.Variable], assigned: Sequence[bool]) -> None:
    for variable, changed in zip(trainable, assigned):
        if changed:
            raise ValueError(
                f"the model assigns to its trainable weight {variable.name} when it is "
                "called; expected that optimizers alone change trainable weights"
            )


def _check(model: Any) -> None:
    """Refuses what is no Keras model, and models that train in a way of their own."""
    if not isinstance(model, tf.keras.Model):
        raise ValueError(
            f"the model builder returned a {type(model).__name__}; expected a "
            "tf.keras.Model"
        )
    if model in _SEEN:
        raise ValueError(
            "the model builder returns the same model each time; expected a new one"
        )
    _SEEN.add(model)
    for method in ("train_step", "compute_loss", "make_train_function"):
        kind = next(k for k in type(model).__mro__ if method in vars(k))
        if kind is not tf.keras.Model or method in vars(model):
            raise ValueError(
                f"{type(model).__name__}.{method} is the model's own way to train, "
                "which clients would not run; expected a model with Keras' train_step: "
                "put the loss into the task's objective and penalties into add_loss"
            )


@contextmanager
def _statistics_in_use(layers: Sequence[Any]) -> Iterator[None]:
    """Makes BatchNormalization normalize by its statistics, also in training."""
    changed = []
    try:
        for layer in layers:
            if isinstance(layer, tf.keras.layers.BatchNormalization):
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
    """The variables of metrics that layers add in their call, and their values."""
    weights = {id(variable) for variable in fixed}
    return [
        (_tff_compat.resource_variable(v), v.numpy())
        for metric in model.metrics
        for v in metric.variables
        if id(v) not in weights
    ]


def _name_of(variable: tf.Variable) -> str:
    return variable.name.partition(":")[0]


def _constraints(
    variables: Sequence[tf.Variable],
) -> Optional[Callable[[Sequence[tf.Tensor]], list[tf.Tensor]]]:
    """Applies the variables' constraints; None if there are none."""
    traced = {
        index: pure_function(
            lambda w, constraint=variable.constraint: [constraint(w)],
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
