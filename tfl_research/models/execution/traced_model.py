"""Traces a model with variables as a function of weights, state and seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfl_research import _tff_compat
from tfl_research.models import heads
from tfl_research.models.execution import inlining, input_gradients
from tfl_research.models.execution.bound_variables import bound
from tfl_research.models.execution.reached_weights import has_custom_gradient
from tfl_research.models.execution.tracing import pure_function
from tfl_research.models.functional_model import Forward

_WHAT = "the model"


@dataclasses.dataclass(frozen=True)
class TracedModel:
    """A model's traced functions.

    Attributes:
      forward: see `FunctionalModel.forward`.
      changing: indices of the non-trainable weights that training changes.
      has_penalty: whether there are penalties.
      draws: number of random draws in training.
      has_custom_gradient: whether operations have a gradient of the model's own.
    """

    forward: Callable[..., Forward]
    changing: tuple[int, ...]
    has_penalty: bool
    draws: int
    has_custom_gradient: bool


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
      prepared: takes the seed, and returns a context in which the model is traced; the
        context has the random draws.
      trainable: the trainable variables.
      fixed: the non-trainable variables.
      x_spec: a batch of inputs.
      keeps_state: whether the values that `call` assigns to `fixed` are discarded.
      modules: the model's layers, which messages name.
    """
    variables = [_tff_compat.resource_variable(v) for v in (*trainable, *fixed)]
    weight_specs = [tf.TensorSpec(v.shape, v.dtype) for v in variables]
    count, learnt = len(variables), len(trainable)
    structures, facts, found = {}, {}, {}
    traced: dict[bool, Any] = {}
    specs = [*weight_specs, *tf.nest.flatten(x_spec), tf.TensorSpec([2], tf.int32)]
    dtypes = [spec.dtype for spec in specs]

    def trace(training: bool, in_bits: bool) -> Any:
        def flat(*arguments: tf.Tensor) -> list[tf.Tensor]:
            if in_bits:
                rest = map(
                    input_gradients.from_integers, arguments[learnt:], dtypes[learnt:]
                )
                arguments = (*arguments[:learnt], *rest)
            seed = arguments[-1]
            x = tf.nest.pack_sequence_as(x_spec, arguments[count:-1])
            with bound(variables, arguments[:count]) as values:
                with prepared(seed) as draws:
                    predictions, penalty = call(x, training)
                predictions = tf.nest.map_structure(_in_float32, predictions)
                assigned = values.assigned()
                after = values.tensors()
            _check_assigned(trainable, assigned)
            structures[training] = tf.nest.map_structure(lambda _: 0, predictions)
            outputs = tf.nest.flatten(predictions)
            found[training] = [heads.traced(output) for output in outputs]
            outputs = [h.logits if h else o for h, o in zip(found[training], outputs)]
            changes = training and not keeps_state
            changing = [
                index
                for index in range(len(fixed))
                if changes and assigned[len(trainable) + index]
            ]
            facts[training] = (penalty is not None, draws.count, tuple(changing))
            state = [after[len(trainable) + index] for index in changing]
            penalties = [] if penalty is None else [penalty]
            return [*outputs, *penalties, *state]

        given = specs
        if in_bits:
            given = [
                *specs[:learnt],
                *map(input_gradients.integer_spec, specs[learnt:]),
            ]
        return pure_function(flat, given, _WHAT, modules)

    traced[True] = trace(True, in_bits=False)
    in_bits = not input_gradients.has_gradient(traced[True], learnt)
    if in_bits:
        traced[True] = trace(True, in_bits=True)
        input_gradients.check_gradient(traced[True], learnt, _WHAT, modules)
    traced[False] = trace(False, in_bits=in_bits)

    def of_call(
        called: Callable[[Sequence[tf.Tensor]], Sequence[tf.Tensor]],
        weights: Sequence[tf.Tensor],
        state: Sequence[tf.Tensor],
        x: Any,
        training: bool,
        seed: tf.Tensor,
    ) -> Forward:
        arguments = [*weights, *state, *tf.nest.flatten(x), seed]
        arguments = [tf.convert_to_tensor(argument) for argument in arguments]
        if in_bits:
            rest = map(input_gradients.as_integers, arguments[learnt:])
            arguments = [*arguments[:learnt], *rest]
        results = list(called(arguments))
        structure = structures[training]
        outputs = len(found[training])
        predictions = tf.nest.pack_sequence_as(
            structure,
            [h.output(r) if h else r for h, r in zip(found[training], results)],
        )
        has_penalty, _, changing = facts[training]
        penalty = results[outputs] if has_penalty else tf.constant(0.0)
        new = dict(zip(changing, results[outputs + has_penalty :]))
        state = tuple(new.get(index, old) for index, old in enumerate(state))
        return Forward(predictions, penalty, state)

    def forward(
        weights: Sequence[tf.Tensor],
        state: Sequence[tf.Tensor],
        x: Any,
        training: bool,
        seed: tf.Tensor,
    ) -> Forward:
        return of_call(
            lambda flat: traced[training](*flat), weights, state, x, training, seed
        )

    operations = inlining.operations_of(traced[True])
    if operations is not None:

        def in_graph(
            weights: Sequence[tf.Tensor],
            state: Sequence[tf.Tensor],
            x: Any,
            seed: tf.Tensor,
        ) -> Forward:
            return of_call(operations, weights, state, x, True, seed)

        inlining.with_operations(forward, in_graph)
    has_penalty, draws, changing = facts[True]
    return TracedModel(
        forward, changing, has_penalty, draws, has_custom_gradient(traced[True])
    )


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
                f"the model assigns to its trainable weight {variable.name} when it "
                "is called; expected that only optimizers change trainable weights"
            )
