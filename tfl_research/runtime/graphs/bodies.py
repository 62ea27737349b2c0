"""The nodes of TensorFlow graphs and functions, in an order to execute them."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from tfl_research import _tff_compat
from tfl_research.runtime.graphs import operations
from tfl_research.runtime.graphs.inlining import function_graph_def


def tensor_name(reference: str) -> str:
    """The name `node:output` of a data input."""
    return reference if ":" in reference else f"{reference}:0"


def node_name(reference: str) -> str:
    """The name of the node that an input, or a control input, refers to."""
    return reference.lstrip("^").partition(":")[0]


class Body:
    """The nodes of a graph or function.

    Attributes:
      nodes: NodeDefs by name, in the order in which they were created.
      arguments: tensor names of the arguments.
      results: tensor names of the results.
      controls: names of nodes that a call executes in addition to the nodes of the
        results.
    """

    def __init__(
        self,
        nodes: Iterable[Any],
        arguments: Sequence[str],
        results: Sequence[str],
        controls: Sequence[str] = (),
    ):
        self.nodes = {node.name: node for node in nodes}
        self.arguments = list(arguments)
        self.results = list(results)
        self.controls = list(controls)
        self._orders: dict[tuple[str, ...], list[Any]] = {}

    def order(self, roots: Sequence[str]) -> list[Any]:
        """The nodes that the roots need, each after the nodes that it needs.

        If the graph does not determine the order, nodes come in the order of creation.

        Args:
          roots: names of tensors or nodes.
        """
        key = tuple(roots)
        if key not in self._orders:
            self._orders[key] = self._sorted(roots)
        return self._orders[key]

    def _sorted(self, roots: Sequence[str]) -> list[Any]:
        needed: set[str] = set()
        stack = [node_name(root) for root in roots]
        while stack:
            name = stack.pop()
            if name not in needed:
                needed.add(name)
                stack += map(node_name, self.nodes[name].input)
        positions = {name: i for i, name in enumerate(self.nodes)}
        waiting: dict[str, int] = {}
        users: dict[str, list[str]] = {name: [] for name in needed}
        for name in needed:
            owners = {node_name(reference) for reference in self.nodes[name].input}
            waiting[name] = len(owners)
            for owner in owners:
                users[owner].append(name)
        ready = [(positions[name], name) for name in needed if not waiting[name]]
        heapq.heapify(ready)
        ordered = []
        while ready:
            _, name = heapq.heappop(ready)
            ordered.append(self.nodes[name])
            for user in users[name]:
                waiting[user] -= 1
                if not waiting[user]:
                    heapq.heappush(ready, (positions[user], user))
        return ordered


class Library:
    """The functions of a graph.

    Attributes:
      versions: versions of TensorFlow that the graph is for.
    """

    def __init__(self, graph_def: Any):
        self.versions = graph_def.versions
        self._definitions = {f.signature.name: f for f in graph_def.library.function}
        self._bodies: dict[str, Body] = {}

    def body(self, name: str) -> Body:
        """The nodes of a function; calls in it are not inlined."""
        if name not in self._bodies:
            definition = self._definitions[name]
            graph_def, flat_names = function_graph_def(definition)
            self._bodies[name] = Body(
                graph_def.node,
                [f"{argument.name}:0" for argument in definition.signature.input_arg],
                [
                    flat_names[definition.ret[argument.name]]
                    for argument in definition.signature.output_arg
                ],
                list(definition.control_ret.values()),
            )
        return self._bodies[name]

    def called(self, node: Any) -> list[str]:
        """Names of this library's functions that a node calls."""
        return [
            reference.name
            for reference in _tff_compat.function_references(node)
            if reference.name in self._definitions
        ]

    def reachable(self, nodes: Iterable[Any]) -> Iterator[Any]:
        """The nodes, and all nodes of the functions that they call."""
        seen: set[str] = set()
        stack = list(nodes)
        while stack:
            node = stack.pop()
            yield node
            for name in self.called(node):
                if name not in seen:
                    seen.add(name)
                    stack += self.body(name).nodes.values()

    def sizes(self, nodes: Iterable[Any]) -> list[int]:
        """Numbers of nodes outside of loops, in loops, in loops within loops, ...

        The nodes of a function count wherever it is called.
        """
        known: dict[str, list[int]] = {}

        def count(some: Iterable[Any]) -> list[int]:
            found = [0]
            for node in some:
                found[0] += 1
                outside = [0] if node.op in operations.LOOPS else []
                for name in self.called(node):
                    if name not in known:
                        known[name] = count(self.body(name).nodes.values())
                    pairs = itertools.zip_longest(found, outside + known[name])
                    found = [(a or 0) + (b or 0) for a, b in pairs]
            return found

        return count(nodes)

    def calls(self, node: Any, condition: Callable[[Any], bool]) -> bool:
        """Whether a function that the node calls has a node with a property."""
        inner = [
            n for name in self.called(node) for n in self.body(name).nodes.values()
        ]
        return any(condition(one) for one in self.reachable(inner))
