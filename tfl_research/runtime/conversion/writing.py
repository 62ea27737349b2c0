"""Writes expressions of a round as TensorFlow graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import _tff_compat
from tfl_research.runtime.conversion.round_values import Call, Tensor, Unknown
from tfl_research.runtime.graphs import parts
from tfl_research.runtime.graphs.bodies import node_name, tensor_name
from tfl_research.runtime.graphs.parts import Part


def written(
    takes: Sequence[Tensor],
    gives: Sequence[Tensor],
    result_type: Optional[tff.Type] = None,
) -> Part:
    """Writes the computation of some tensors from other tensors.

    Args:
      takes: the arguments, in order.
      gives: the results, in order.
      result_type: the type of the result; by default a structure of the results' types.

    Returns:
      The graph. It has each call that the results need once.

    Raises:
      Unknown: a result depends on a tensor that is no argument.
    """
    graph = _Graph()
    for number, tensor in enumerate(takes):
        graph.add_argument(f"argument_{number}", tensor)
    outputs = [
        graph.add_result(f"result_{number}", tensor)
        for number, tensor in enumerate(gives)
    ]
    return Part(
        graph.graph_def,
        [f"argument_{number}:0" for number in range(len(takes))],
        outputs,
        "",
        structure([t.type for t in takes]) if takes else None,
        structure([t.type for t in gives]) if result_type is None else result_type,
    )


def structure(member_types: Sequence[tff.Type]) -> tff.StructType:
    """A structure without names."""
    return tff.StructType(list(member_types))


class _Graph:
    """A graph that grows by calls of other graphs."""

    def __init__(self) -> None:
        self.graph_def = parts.empty()
        self._names: dict[tuple[int, int], str] = {}
        self._functions: dict[str, Any] = {}
        self._calls = 0

    def add_argument(self, name: str, tensor: Tensor) -> None:
        parts.add_placeholder(self.graph_def, name, tensor.type)
        self._names[tensor.key] = f"{name}:0"

    def add_result(self, name: str, tensor: Tensor) -> str:
        """Adds a tensor and everything that it needs, under a name of its own."""
        source = self._name(tensor)
        node = self.graph_def.node.add(name=name, op="Identity", input=[source])
        node.attr["T"].type = tf.as_dtype(tensor.type.dtype).as_datatype_enum
        return f"{name}:0"

    def _name(self, tensor: Tensor) -> str:
        if tensor.key not in self._names:
            if not isinstance(tensor.owner, Call):
                kind = type(tensor.owner).__name__
                raise Unknown(f"a {kind} where a part of a round cannot have it")
            self._add_call(tensor.owner)
        return self._names[tensor.key]

    def _add_call(self, call: Call) -> None:
        part = call.leaf.part
        if part.graph_def.versions.producer != self.graph_def.versions.producer:
            raise Unknown("a graph of another version of TensorFlow")
        given = {
            name: self._name(argument)
            for name, argument in zip(part.inputs, call.arguments)
        }
        prefix = f"call_{self._calls}/"
        self._calls += 1
        renamed = self._add_functions(part.graph_def.library)
        placeholders = {node_name(name) for name in part.inputs}

        def moved(reference: str) -> Optional[str]:
            if reference.startswith("^"):
                # Arguments are not executed.
                is_argument = node_name(reference) in placeholders
                return None if is_argument else f"^{prefix}{reference[1:]}"
            known = given.get(tensor_name(reference))
            return f"{prefix}{reference}" if known is None else known

        for node in part.graph_def.node:
            if node.name in placeholders:
                continue
            copied = self.graph_def.node.add()
            copied.CopyFrom(node)
            copied.name = f"{prefix}{node.name}"
            del copied.input[:]
            copied.input.extend(filter(None, map(moved, node.input)))
            # Of resources only, which pure graphs do not have.
            copied.attr.pop("_class", None)
            for reference in _tff_compat.function_references(copied):
                reference.name = renamed.get(reference.name, reference.name)
        for index, name in enumerate(part.outputs):
            moved_name = moved(name)
            if moved_name is None:
                raise Unknown(f"a result that is no tensor: {name}")
            self._names[id(call), index] = moved_name

    def _add_functions(self, library: Any) -> dict[str, str]:
        """Adds a library; gives new names of functions whose names are taken."""
        taken = {
            function.signature.name
            for function in library.function
            if self._functions.get(function.signature.name, function) != function
        }
        names = set(self._functions)
        names.update(function.signature.name for function in library.function)
        renamed = {}
        # All functions are renamed, since each may call one whose name is taken.
        for function in library.function if taken else ():
            number = 1
            while (new := f"{function.signature.name}_{number}") in names:
                number += 1
            names.add(new)
            renamed[function.signature.name] = new
        for function in library.function:
            name = function.signature.name
            if not renamed and name in self._functions:
                continue
            added = self.graph_def.library.function.add()
            added.CopyFrom(function)
            added.signature.name = renamed.get(name, name)
            for node in added.node_def:
                for reference in _tff_compat.function_references(node):
                    reference.name = renamed.get(reference.name, reference.name)
            self._functions[added.signature.name] = added
        return renamed
