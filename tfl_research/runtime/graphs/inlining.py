"""Replaces function calls in TensorFlow graphs by the called functions.

If a result of a call must be a compile-time constant, XLA treats all arguments of the
call as compile-time constants, and compiles again for every value. A differentiated
Keras model is such a call. Without calls only the shapes are constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfl_research import _tff_compat

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def function_graph_def(definition: Any) -> tuple[Any, dict[str, str]]:
    """Converts a FunctionDef's body to a GraphDef with placeholders as arguments.

    Returns:
      (GraphDef, `{a tensor's name in the FunctionDef: its name in the GraphDef}`).
    """
    graph_def = tf.compat.v1.GraphDef()
    flat_names = {}
    for index, argument in enumerate(definition.signature.input_arg):
        node = graph_def.node.add(name=argument.name, op="Placeholder")
        node.attr["dtype"].type = argument.type
        shapes = definition.arg_attr[index].attr.get("_output_shapes")
        if shapes is not None and shapes.list.shape:
            node.attr["shape"].shape.CopyFrom(shapes.list.shape[0])
        flat_names[argument.name] = f"{argument.name}:0"
    for node in definition.node_def:
        flat = 0
        for result, count in _tff_compat.num_outputs(node):
            for index in range(count):
                flat_names[f"{node.name}:{result}:{index}"] = f"{node.name}:{flat}"
                flat += 1
    for node in definition.node_def:
        copied = graph_def.node.add()
        copied.CopyFrom(node)
        inputs = [flat_names.get(name, name) for name in node.input]
        del copied.input[:]
        copied.input.extend(inputs)
    return graph_def, flat_names


class Inlined:
    """A graph without function calls, but with functions of loops and branches.

    Attributes:
      graph_def: the graph, without a library.
    """

    def __init__(self, graph_def: Any, functions: Mapping[str, Any]):
        """Inlines the calls in a graph.

        Args:
          graph_def: a GraphDef that is stateless or does not depend on the order of
            calls.
          functions: FunctionDefs by name.
        """
        self.graph_def = tf.compat.v1.GraphDef(versions=graph_def.versions)
        # New references for references to a call's result, and to a call.
        self._results: dict[str, str] = {}
        self._controls: dict[str, list[str]] = {}
        for node in graph_def.node:
            if node.op in _CALLS:
                self._inline(node, functions)
            else:
                kept = self.graph_def.node.add()
                kept.CopyFrom(node)
        for node in self.graph_def.node:
            inputs = [new for old in node.input for new in self._resolved(old)]
            del node.input[:]
            node.input.extend(inputs)
            # Colocation may name a removed call; on one device it has no effect.
            node.attr.pop("_class", None)

    def tensor(self, name: str) -> str:
        """The name, in this graph, of a tensor of the original graph."""
        (resolved,) = self._resolved(name)
        return resolved if ":" in resolved else f"{resolved}:0"

    def _resolved(self, reference: str) -> list[str]:
        if reference.startswith("^"):
            return self._controls.get(reference[1:], [reference])
        seen = reference if ":" in reference else f"{reference}:0"
        while seen in self._results:
            seen = self._results[seen]
        owner, _, index = seen.partition(":")
        return [owner if index == "0" else seen]

    def _inline(self, call: Any, functions: Mapping[str, Any]) -> None:
        definition = functions[call.attr["f"].func.name]
        body, flat_names = function_graph_def(definition)
        inner = Inlined(body, functions)
        arguments = {
            argument.name: value
            for argument, value in zip(definition.signature.input_arg, call.input)
        }

        def outside(reference: str) -> str:
            control = reference.startswith("^")
            owner, colon, index = reference.lstrip("^").partition(":")
            if owner in arguments:
                value = arguments[owner]
                return f"^{value.partition(':')[0]}" if control else value
            return f"{'^' * control}{call.name}/{owner}{colon}{index}"

        for node in inner.graph_def.node:
            if node.name in arguments:
                continue
            copied = self.graph_def.node.add()
            copied.CopyFrom(node)
            copied.name = f"{call.name}/{node.name}"
            inputs = [outside(reference) for reference in node.input]
            del copied.input[:]
            copied.input.extend(inputs)
        owners = []
        for index, argument in enumerate(definition.signature.output_arg):
            result = outside(inner.tensor(flat_names[definition.ret[argument.name]]))
            result = result if ":" in result else f"{result}:0"
            self._results[f"{call.name}:{index}"] = result
            owners.append(f"^{result.partition(':')[0]}")
        self._controls[call.name] = sorted(set(owners))
