"""Rebuilds the functions of loops and branches for the graphs that use them."""

from __future__ import annotations

from typing import Any

from tfl_research import _tff_compat
from tfl_research.runtime.graphs.inlining import Inlined, function_graph_def


class Loader:
    """Rebuilds the functions of loops and branches, with inlined calls.

    Vectorisation converts the graphs of these functions, but a library that is imported
    with a graph has only the serialised functions. The functions must be pure.
    """

    def __init__(self, library: Any):
        self._definitions = {f.signature.name: f for f in library.function}
        self._by_name: dict[str, Any] = {}

    def add_to(self, graph: Any) -> None:
        """Adds all functions loaded so far to a graph, callees before callers."""
        for function in self._by_name.values():
            function.add_to_graph(graph)

    def rename_references(self, node: Any) -> list[Any]:
        """Loads the functions that a node refers to, and updates the references."""
        called = []
        for reference in _tff_compat.function_references(node):
            function = self._load(reference.name)
            reference.name = _tff_compat.function_name(function)
            called.append(function)
        return called

    def _load(self, name: str) -> Any:
        if name not in self._by_name:
            definition = self._definitions[name]
            body, flat_names = function_graph_def(definition)
            inlined = Inlined(body, self._definitions)
            called = [
                function
                for node in inlined.graph_def.node
                for function in self.rename_references(node)
            ]
            results = [
                inlined.tensor(flat_names[definition.ret[argument.name]])
                for argument in definition.signature.output_arg
            ]
            arguments = [f"{a.name}:0" for a in definition.signature.input_arg]
            self._by_name[name] = _tff_compat.concrete_function(
                name, inlined.graph_def, arguments, results, called
            )
        return self._by_name[name]
