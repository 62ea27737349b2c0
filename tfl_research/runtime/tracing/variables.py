"""Executes operations on variables; their values are tensors of the traced graph."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfl_research.runtime.graphs.limits_of_xla import guards
from tfl_research.runtime.tracing.interpreter import (
    CannotTrace,
    Handler,
    Trace,
    Value,
    Variable,
)


def _handle(trace: Trace, node: Any) -> list[Value]:
    key = node.attr["shared_name"].s.decode() or node.name
    shape = tf.TensorShape(node.attr["shape"].shape)
    return [Variable(key, shape, tf.as_dtype(node.attr["dtype"].type))]


def _variable(trace: Trace, node: Any) -> Variable:
    value = trace.value(node.input[0])
    if not isinstance(value, Variable):
        raise CannotTrace(
            f"its operation {node.op} takes a resource that is no variable"
        )
    return value


def _current(trace: Trace, node: Any) -> tuple[Variable, tf.Tensor]:
    variable = _variable(trace, node)
    if variable.key not in trace.state.variables:
        raise CannotTrace(f"it reads the variable {variable.key} before a first value")
    return variable, trace.state.variables[variable.key]


def _set(trace: Trace, variable: Variable, value: Any) -> list[Value]:
    # A copy of the handle's shape, so that loops carry tensors of one shape.
    value = tf.identity(value)
    value.set_shape(variable.shape)
    trace.state.variables[variable.key] = value
    return []


def _read(trace: Trace, node: Any) -> list[Value]:
    return [_current(trace, node)[1]]


def _assign(trace: Trace, node: Any) -> list[Value]:
    return _set(trace, _variable(trace, node), trace.tensor(node.input[1], node))


def _add(trace: Trace, node: Any) -> list[Value]:
    variable, value = _current(trace, node)
    return _set(trace, variable, value + trace.tensor(node.input[1], node))


def _subtract(trace: Trace, node: Any) -> list[Value]:
    variable, value = _current(trace, node)
    return _set(trace, variable, value - trace.tensor(node.input[1], node))


def _is_initialized(trace: Trace, node: Any) -> list[Value]:
    return [tf.constant(_variable(trace, node).key in trace.state.variables)]


def _shape(trace: Trace, node: Any) -> list[Value]:
    _, value = _current(trace, node)
    return [tf.shape(value, out_type=tf.as_dtype(node.attr["out_type"].type))]


def _gather(trace: Trace, node: Any) -> list[Value]:
    _, value = _current(trace, node)
    indices = trace.tensor(node.input[1], node)
    batch = node.attr["batch_dims"].i
    if trace.interpreter.guarded:
        trace.state.violated |= guards.gathered(value, indices, batch)
    return [tf.gather(value, indices, axis=batch, batch_dims=batch)]


def _scatter(change: Any) -> Handler:
    def scatter(trace: Trace, node: Any) -> list[Value]:
        variable, value = _current(trace, node)
        indices, updates = (
            trace.tensor(node.input[1], node),
            trace.tensor(node.input[2], node),
        )
        if trace.interpreter.guarded:
            trace.state.violated |= guards.gathered(value, indices, 0)
        shape = tf.concat([tf.shape(indices), tf.shape(value)[1:]], 0)
        updates = tf.broadcast_to(updates, shape)
        return _set(trace, variable, change(value, indices[..., tf.newaxis], updates))

    return scatter


def _forgotten(trace: Trace, node: Any) -> list[Value]:
    trace.state.variables.pop(_variable(trace, node).key, None)
    return []


HANDLERS: dict[str, Handler] = {
    "VarHandleOp": _handle,
    "ReadVariableOp": _read,
    "AssignVariableOp": _assign,
    "AssignAddVariableOp": _add,
    "AssignSubVariableOp": _subtract,
    "VarIsInitializedOp": _is_initialized,
    "VariableShape": _shape,
    "ResourceGather": _gather,
    "ResourceScatterAdd": _scatter(tf.tensor_scatter_nd_add),
    "ResourceScatterSub": _scatter(tf.tensor_scatter_nd_sub),
    "ResourceScatterUpdate": _scatter(tf.tensor_scatter_nd_update),
    "DestroyResourceOp": _forgotten,
}
