"""Executes reductions of a client's dataset as loops over its stacked elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfl_research.runtime.graphs.operations import REDUCE
from tfl_research.runtime.graphs.sequences import ClientSequence
from tfl_research.runtime.tracing.carried import Carried, loop
from tfl_research.runtime.tracing.interpreter import (
    CannotTrace,
    Handler,
    Interpreter,
    State,
    Trace,
    Value,
)
from tfl_research.runtime.tracing.one_thread import on_one_thread


def _reduce(trace: Trace, node: Any) -> list[Value]:
    dataset, *given = trace.inputs(node)
    if not isinstance(dataset, ClientSequence):
        raise CannotTrace("it reduces a dataset that is not the client's own")
    number = len(node.attr["Tstate"].list.type)
    start, others = given[:number], given[number:]
    body = trace.interpreter.library.body(node.attr["f"].func.name)
    shapes = [tf.TensorShape(shape) for shape in node.attr["output_shapes"].list.shape]

    def elements(
        interpreter: Interpreter,
        element: Callable[[tf.Tensor], list[tf.Tensor]],
        begin: tf.Tensor,
        end: tf.Tensor,
        tensors: Sequence[tf.Tensor],
        carried: Carried,
    ) -> list[tf.Tensor]:
        """Applies the function to some of the elements."""

        def step(values: list[tf.Tensor], state: State) -> list[Any]:
            index, *current = values
            arguments = [*current, *element(index), *others]
            return [index + 1, *interpreter.run(body, arguments, state)]

        results = loop(
            lambda values, _: values[0] < end,
            step,
            [begin, *tensors],
            [tf.TensorShape([]), *shapes],
            carried,
        )
        return results[1:]

    carried = Carried.of(trace.state, others)
    first = tf.constant(0)
    if trace.interpreter.compiled_loops:
        start = _compiled(trace.interpreter, elements, dataset, start, carried)
        first = dataset.full
        carried = Carried.of(trace.state, others)
    return elements(
        trace.interpreter, dataset.element, first, dataset.count, start, carried
    )


def _compiled(
    interpreter: Interpreter,
    elements: Callable[..., list[tf.Tensor]],
    dataset: ClientSequence,
    start: Sequence[tf.Tensor],
    carried: Carried,
) -> list[tf.Tensor]:
    """The loop over full batches, which have one shape, compiled by XLA."""
    number = len(start)

    @tf.function(jit_compile=True, autograph=False)
    def compiled(*tensors: tf.Tensor) -> list[tf.Tensor]:
        state = carried.inside(tensors[number:])
        inner = Carried(state, carried.keys)
        results = elements(
            interpreter.within_xla(),
            dataset.full_element,
            tf.constant(0),
            dataset.full,
            tensors[:number],
            inner,
        )
        return [*results, *inner.tensors()]

    results = on_one_thread(compiled)(*start, *carried.tensors())
    carried.leave(results[number:])
    return list(results[:number])


HANDLERS: dict[str, Handler] = {REDUCE: _reduce}
