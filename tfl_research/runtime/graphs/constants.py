"""Turns scalar constants of TensorFlow graphs into arguments.

Processes that differ only in a learning rate or a noise multiplier have graphs that
differ only in the value of a constant. If this constant is an argument, the graphs are
equal, and one compiled program serves a whole sweep.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfl_research import _tff_compat

_FLOAT = tf.float32.as_datatype_enum
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_BRANCHES = ("If", "StatelessIf", "Case", "StatelessCase")
_LOOPS = ("While", "StatelessWhile")
# Operations that can pass further arguments to the functions that they call.
_OPEN = (*_CALLS, *_BRANCHES, *_LOOPS)
# Programs may always take constants with this text in their name as arguments. So a
# point of a sweep has the same bits, whatever the constants of the other points are.
ARGUMENT = "tfl_research_argument"

# (0 for the graph itself or the number of a function, index of the node in it).
Position = tuple[int, int]


def argument(value: float) -> tf.Tensor:
    """Makes a float32 constant that programs always take as an argument."""
    return tf.constant(value, tf.float32, name=ARGUMENT)


def is_scalar(node: Any) -> bool:
    """Whether a NodeDef is a float32 constant without axes."""
    if node.op != "Const" or node.attr["dtype"].type != _FLOAT:
        return False
    return not node.attr["value"].tensor.tensor_shape.dim


class ScalarConstants:
    """The scalar float constants of a graph that can become arguments.

    Attributes:
      positions: the positions of the constants. Only the graph's structure decides
        their order. So the same position in two graphs of equal structure means the
        same constant.
      values: float32 `[constants]`, by position.
      arguments: indices of the constants that are named `ARGUMENT`.
      functions: names of the functions that hold some of the positions.
    """

    def __init__(self, graph_def: Any):
        """Finds the constants.

        Args:
          graph_def: a GraphDef with its function library.
        """
        self._graph_def = graph_def
        self._definitions = {f.signature.name: f for f in graph_def.library.function}
        closed = self._closed()
        self._numbers: dict[str, int] = {}
        self.positions: list[Position] = []
        self.values: list[float] = []
        self.arguments: list[int] = []
        self._visit(0, graph_def.node, closed)
        self.functions = frozenset(self._numbers)

    def _closed(self) -> frozenset[str]:
        """Functions called by operations that cannot pass further arguments."""
        closed: set[str] = set()

        def close(name: str) -> None:
            if name not in closed and name in self._definitions:
                closed.add(name)
                for node in self._definitions[name].node_def:
                    for reference in _tff_compat.function_references(node):
                        close(reference.name)

        bodies = [f.node_def for f in self._definitions.values()]
        for nodes in [self._graph_def.node, *bodies]:
            for node in nodes:
                if node.op not in _OPEN:
                    for reference in _tff_compat.function_references(node):
                        close(reference.name)
        return frozenset(closed)

    def _visit(self, number: int, nodes: Any, closed: frozenset[str]) -> None:
        for index, node in enumerate(nodes):
            if is_scalar(node):
                if ARGUMENT in node.name:
                    self.arguments.append(len(self.positions))
                self.positions.append((number, index))
                self.values.append(float(tf.make_ndarray(node.attr["value"].tensor)))
            for _, reference in references(node):
                name = reference.name
                if name not in closed and name not in self._numbers:
                    self._numbers[name] = len(self._numbers) + 1
                    self._visit(
                        self._numbers[name], self._definitions[name].node_def, closed
                    )

    def lifted(self, chosen: Sequence[Position]) -> tuple[Any, list[str]]:
        """The graph with some of its constants as arguments.

        Args:
          chosen: the positions of these constants.

        Returns:
          The GraphDef, and the names of the arguments' tensors in the order of
          `chosen`.
        """
        return _Lifting(self._graph_def, self._numbers, chosen).result()


def _argument(position: Position) -> str:
    return f"lifted_{position[0]}_{position[1]}"


class _Lifting:
    """Rewrites one graph."""

    def __init__(
        self,
        graph_def: Any,
        numbers: Mapping[str, int],
        chosen: Sequence[Position],
    ):
        self._graph_def = graph_def
        self._numbers = numbers
        self._chosen = list(chosen)
        self._definitions = {f.signature.name: f for f in graph_def.library.function}
        self._needs: dict[str, list[Position]] = {}
        # New functions by (old name, further arguments, whether it returns them).
        self._written: dict[tuple[str, tuple[Position, ...], bool], Any] = {}

    def result(self) -> tuple[Any, list[str]]:
        graph_def = tf.compat.v1.GraphDef(versions=self._graph_def.versions)
        for position in self._chosen:
            node = graph_def.node.add(name=_argument(position), op="Placeholder")
            node.attr["dtype"].type = _FLOAT
            node.attr["shape"].shape.SetInParent()
        self._rewrite(0, self._graph_def.node, graph_def.node)
        graph_def.library.CopyFrom(self._graph_def.library)
        graph_def.library.function.extend(self._written.values())
        return graph_def, [f"{_argument(position)}:0" for position in self._chosen]

    def _rewrite(self, number: int, nodes: Any, rewritten: Any) -> None:
        chosen = set(self._chosen)
        for index, node in enumerate(nodes):
            copied = rewritten.add()
            copied.CopyFrom(node)
            if (number, index) in chosen:
                # The name does not change, so that references stay valid.
                copied.op = "Identity"
                copied.attr.clear()
                copied.attr["T"].type = _FLOAT
                copied.input.insert(0, _argument((number, index)))
            else:
                self._hand_on(copied)

    def _needed(self, names: Iterable[str]) -> list[Position]:
        """Chosen constants in functions and in the functions that they call."""
        positions: set[Position] = set()
        for name in names:
            if name not in self._needs:
                self._needs[name] = []  # functions do not call themselves
                if name in self._numbers:
                    self._needs[name] = list(self._own(name))
            positions.update(self._needs[name])
        return [position for position in self._chosen if position in positions]

    def _own(self, name: str) -> Iterator[Position]:
        chosen = set(self._chosen)
        for index, node in enumerate(self._definitions[name].node_def):
            if (self._numbers[name], index) in chosen:
                yield self._numbers[name], index
            yield from self._needed(
                r.name for r in _tff_compat.function_references(node)
            )

    def _hand_on(self, node: Any) -> None:
        """Adds the arguments that the called functions need to an operation."""
        called = list(references(node))
        needed = self._needed(reference.name for _, reference in called)
        if not needed:
            return
        loop = node.op in _LOOPS
        for key, reference in called:
            body = loop and key == "body"
            reference.name = self._write(reference.name, tuple(needed), body)
        # Control inputs stay last.
        data = [i for i in node.input if not i.startswith("^")]
        control = [i for i in node.input if i.startswith("^")]
        del node.input[:]
        node.input.extend([*data, *map(_argument, needed), *control])
        types = node.attr["T" if loop else "Tin"].list
        types.type.extend([_FLOAT] * len(needed))
        shapes = node.attr["output_shapes"].list if "output_shapes" in node.attr else ()
        if loop and shapes and shapes.shape:
            for _ in needed:
                shapes.shape.add()

    def _write(self, name: str, needed: tuple[Position, ...], body: bool) -> str:
        key = (name, needed, body)
        if key in self._written:
            return self._written[key].signature.name
        old = self._definitions[name]
        new = type(old)()
        new.CopyFrom(old)
        new.signature.name = f"{name}_lifted_{len(self._written)}"
        self._written[key] = new
        for position in needed:
            index = len(new.signature.input_arg)
            new.signature.input_arg.add(name=_argument(position), type=_FLOAT)
            new.arg_attr[index].attr["_output_shapes"].list.shape.add()
        del new.node_def[:]
        self._rewrite(self._numbers[name], old.node_def, new.node_def)
        if body:
            for position in needed:
                result = f"{_argument(position)}_again"
                new.signature.output_arg.add(name=result, type=_FLOAT)
                new.ret[result] = _argument(position)
        return new.signature.name


def references(node: Any) -> Iterator[tuple[str, Any]]:
    """The functions that a NodeDef calls, with their attributes, in a fixed order."""
    for key in sorted(node.attr):
        attribute = node.attr[key]
        if attribute.HasField("func"):
            yield key, attribute.func
        for function in attribute.list.func:
            yield key, function
