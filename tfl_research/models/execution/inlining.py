"""Traced functions as operations of the caller's graph, in place of a call."""

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
    """A function that adds a graph's operations to the caller's graph.

    Args:
      definition: the graph's GraphDef; it changes.
      inputs: placeholders of the graph, in whose places the function's arguments come.
      outputs: the graph's tensors that the function returns.
    """
    placeholders = {t.op.name for t in inputs}
    nodes = [n for n in definition.node if n.name not in placeholders]
    for node in nodes:
        # Colocation with an argument that is not imported; there is one device.
        node.attr.pop("_class", None)
    del definition.node[:]
    # XLA compiles no placeholders, also where nothing uses them.
    definition.node.extend(nodes)
    used = {name.partition(":")[0] for node in nodes for name in node.input}
    results = [t.name for t in outputs]

    def imported(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        # Importing writes default attributes into the definition.
        own = tf.compat.v1.GraphDef()
        own.CopyFrom(definition)
        return tf.graph_util.import_graph_def(
            own,
            # Identities are tensors of this very graph: the import goes by names, and
            # would take a tensor of an outer graph for another one.
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
    """A concrete function's operations, for the caller's graph.

    `tf.gradients` differentiates them; a `tf.GradientTape` does not see them.

    Returns:
      A function of the arguments' tensors. None where operations call functions, have
      effects, have gradients of a user's own, or wait for an argument, and where the
      function holds tensors or returns an argument.
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
    # A function that was differentiated has further outputs, for its gradient.
    outputs = traced.outputs[: len(tf.nest.flatten(traced.structured_outputs))]
    if any(t.op.name in arguments for t in outputs):
        return None
    return importer(definition, traced.inputs, outputs)


def with_operations(forward: Callable[..., Any], in_graph: Callable[..., Any]) -> None:
    """Gives a model's `forward` its twin whose operations are the caller's graph's.

    The twin is a part of this very function, so that another function in its place, as
    of a model that changes the weights first, has none.
    """
    setattr(forward, _IN_GRAPH, in_graph)


def in_graph(forward: Callable[..., Any]) -> Optional[Callable[..., Any]]:
    """`forward` in training as operations of the caller's graph; None if it has none.

    The arguments are those of `FunctionalModel.forward` without `training`.
    """
    return getattr(forward, _IN_GRAPH, None)
