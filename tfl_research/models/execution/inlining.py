"""Adds the operations of traced functions to the caller's graph instead of a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Optional

import tensorflow as tf

from tfl_research import _tff_compat
from tfl_research.models.layers import own_gradients

_IN_GRAPH = "in_graph"


def importer(
    definition: Any, inputs: Sequence[tf.Tensor], outputs: Sequence[tf.Tensor]
) -> Callable[[Sequence[tf.Tensor]], list[tf.Tensor]]:
    """Makes a function that adds a graph's operations to the caller's graph.

    Args:
      definition: the graph's GraphDef; the function changes it.
      inputs: placeholders of the graph, which the function's arguments replace.
      outputs: the graph's tensors that the function returns.
    """
    placeholders = {t.op.name for t in inputs}
    nodes = [n for n in definition.node if n.name not in placeholders]
    for node in nodes:
        # Drops colocation with an argument that is not imported; there is one device.
        node.attr.pop("_class", None)
    del definition.node[:]
    # XLA cannot compile placeholders, even if no operation uses them.
    definition.node.extend(nodes)
    used = {name.partition(":")[0] for node in nodes for name in node.input}
    results = [t.name for t in outputs]

    def imported(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        # Importing writes default attributes into the definition.
        own = tf.compat.v1.GraphDef()
        own.CopyFrom(definition)
        return tf.graph_util.import_graph_def(
            own,
            # The import finds tensors by name, and would confuse a tensor of an outer
            # graph with one of this graph. Identities are tensors of this graph.
            input_map={
                tensor.name: tf.identity(value)
                for tensor, value in zip(inputs, values)
                if tensor.op.name in used
            },
            return_elements=results,
            name="",
        )

    return imported


def operations_of(
    traced: Any,
) -> Optional[Callable[[Sequence[tf.Tensor]], list[tf.Tensor]]]:
    """Makes a function that adds a concrete function's operations to a graph.

    `tf.gradients` differentiates the operations; a `tf.GradientTape` does not see them.

    Returns:
      A function of the arguments' tensors. None if operations call functions, have side
      effects, have a user's own gradients, or wait for an argument, or if the function
      holds tensors or returns an argument.
    """
    definition = traced.graph.as_graph_def()
    if definition.library.function or traced.captured_inputs:
        return None
    for node in definition.node:
        if _tff_compat.is_stateful(node.op) and node.op != "Placeholder":
            return None
        gradient = node.attr.get("_gradient_op_type")
        if gradient is not None and not own_gradients.is_attached(gradient.s.decode()):
            return None
    arguments = {t.op.name for t in traced.inputs}
    if any(f"^{name}" in node.input for node in definition.node for name in arguments):
        return None
    # A function that was differentiated has further outputs for its gradient.
    outputs = traced.outputs[: len(tf.nest.flatten(traced.structured_outputs))]
    if any(t.op.name in arguments for t in outputs):
        return None
    return importer(definition, traced.inputs, outputs)


def with_operations(forward: Callable[..., Any], in_graph: Callable[..., Any]) -> None:
    """Attaches a twin to a model's `forward`, which adds operations to a graph.

    The twin is an attribute of this function object. So if another function replaces
    `forward`, such as one that changes the weights first, it has no twin.
    """
    setattr(forward, _IN_GRAPH, in_graph)


def in_graph(forward: Callable[..., Any]) -> Optional[Callable[..., Any]]:
    """Returns the twin of `forward` in training, or None.

    The arguments are those of `FunctionalModel.forward` without `training`.
    """
    return getattr(forward, _IN_GRAPH, None)
