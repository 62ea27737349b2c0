"""Executes calls, loops, branches and assertions of graphs that are interpreted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfl_research.runtime.graphs.limits_of_xla import guards
from tfl_research.runtime.tracing.carried import Carried, loop
from tfl_research.runtime.tracing.interpreter import (
    CannotTrace,
    Handler,
    State,
    Trace,
    Value,
)


def _call(trace: Trace, node: Any) -> list[Value]:
    body = trace.interpreter.library.body(node.attr["f"].func.name)
    return trace.interpreter.run(body, trace.inputs(node), trace.state)


def _tensors_only(values: Sequence[Value], node: Any) -> list[tf.Tensor]:
    for value in values:
        if not isinstance(value, tf.Tensor):
            raise CannotTrace(f"its operation {node.op} results in a handle")
    return list(values)


def _while(trace: Trace, node: Any) -> list[Value]:
    interpreter = trace.interpreter
    condition = interpreter.library.body(node.attr["cond"].func.name)
    body = interpreter.library.body(node.attr["body"].func.name)
    given = trace.inputs(node)
    places = [i for i, value in enumerate(given) if isinstance(value, tf.Tensor)]

    def whole(tensors: Sequence[tf.Tensor]) -> list[Value]:
        values = list(given)
        for place, tensor in zip(places, tensors):
            values[place] = tensor
        return values

    def go_on(tensors: list[tf.Tensor], state: State) -> tf.Tensor:
        result: Any = interpreter.run(condition, whole(tensors), state)[0]
        return result if result.dtype == tf.bool else tf.not_equal(result, 0)

    def step(tensors: list[tf.Tensor], state: State) -> list[tf.Tensor]:
        results = interpreter.run(body, whole(tensors), state)
        for place, (before, after) in enumerate(zip(given, results)):
            if place not in places and before != after:
                raise CannotTrace("a loop exchanges a handle")
        return [results[place] for place in places]

    declared = node.attr["output_shapes"].list.shape
    shapes = [
        tf.TensorShape(declared[place]) if declared else tf.TensorShape(None)
        for place in places
    ]
    results = loop(
        go_on,
        step,
        [given[place] for place in places],
        shapes,
        Carried.of(trace.state, given),
        node.attr["parallel_iterations"].i or 10,
        node.name,
    )
    return whole(results)


def _branches(trace: Trace, node: Any, names: Sequence[str]) -> list[Value]:
    """Executes one of several functions; the first input selects the function."""
    interpreter = trace.interpreter
    given = trace.inputs(node)[1:]
    chosen = trace.tensor(node.input[0], node)
    carried = Carried.of(trace.state, given)
    bodies = [interpreter.library.body(name) for name in names]

    def branch(body: Any) -> list[tf.Tensor]:
        state = trace.state.copy()
        results = interpreter.run(body, given, state)
        return [*_tensors_only(results, node), *carried.after(state)]

    if len(bodies) == 2 and node.op in ("If", "StatelessIf"):
        if chosen.dtype != tf.bool:
            chosen = tf.not_equal(chosen, tf.zeros([], chosen.dtype))
        results = tf.cond(
            chosen,
            lambda: branch(bodies[0]),
            lambda: branch(bodies[1]),
            name=node.name,
        )
    else:
        results = tf.switch_case(
            chosen,
            [lambda body=body: branch(body) for body in bodies],
            name=node.name,
        )
    results = list(results)
    number = len(node.attr["Tout"].list.type)
    carried.leave(results[number:])
    return results[:number]


def _if(trace: Trace, node: Any) -> list[Value]:
    names = [node.attr[key].func.name for key in ("then_branch", "else_branch")]
    return _branches(trace, node, names)


def _case(trace: Trace, node: Any) -> list[Value]:
    return _branches(trace, node, [f.name for f in node.attr["branches"].list.func])


def _assertion(trace: Trace, node: Any) -> list[Value]:
    """Executes an assertion; under XLA, which drops assertions, as a guard."""
    value = trace.tensor(node.input[0], node)
    trace.state.violated |= guards.failed_assertion(node.op, value)
    return [] if node.op == "Assert" else [value]


HANDLERS: dict[str, Handler] = {
    "PartitionedCall": _call,
    "StatefulPartitionedCall": _call,
    "While": _while,
    "StatelessWhile": _while,
    "If": _if,
    "StatelessIf": _if,
    "Case": _case,
    "StatelessCase": _case,
    "Assert": _assertion,
    "CheckNumerics": _assertion,
    "CheckNumericsV2": _assertion,
}
