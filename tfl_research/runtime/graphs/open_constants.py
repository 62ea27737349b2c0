"""Finds whether the shapes in a graph can depend on its float constants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf

from tfl_research.runtime.graphs.constants import references

_FLOATS = frozenset(
    dtype.as_datatype_enum
    for dtype in (tf.float16, tf.bfloat16, tf.float32, tf.float64)
)
# Operations by which TensorFlow computes floats from float constants while it builds a
# graph.
_FLOATS_FROM_FLOATS = frozenset(
    (
        *(
            "Add",
            "AddV2",
            "BroadcastTo",
            "ConcatV2",
            "Div",
            "Exp",
            "ExpandDims",
            "Expm1",
        ),
        *("Fill", "Identity", "Log", "Log1p", "Maximum", "Minimum", "Mul", "Neg"),
        *("OnesLike", "Pack", "Pow", "RealDiv", "Reciprocal", "Reshape", "Rsqrt"),
        *("Sqrt", "Square", "Sub", "Tile", "ZerosLike"),
    )
)


def is_float(node: Any) -> bool:
    """Whether a NodeDef is a constant of floating-point numbers."""
    return node.op == "Const" and node.attr["dtype"].type in _FLOATS


def decide_nothing(graph_def: Any) -> bool:
    """Whether no shape in a graph can depend on the values of its float constants.

    Shapes are integers, and TensorFlow computes shapes that follow from constants. So
    consider the operations whose arguments are all known constants. In the graph and in
    each of its functions, such an operation may only compute floats from floats.
    """
    bodies = [graph_def.node, *(f.node_def for f in graph_def.library.function)]
    return all(map(_decide_nothing, bodies))


def _decide_nothing(nodes: Any) -> bool:
    # Names of nodes that follow from constants, and whether these include floats.
    known: dict[str, bool] = {}
    for node in nodes:
        if node.op == "Const":
            known[node.name] = is_float(node)
            continue
        owners = [name.partition(":")[0] for name in node.input if name[:1] != "^"]
        if not owners or not all(owner in known for owner in owners):
            continue
        known[node.name] = any(known[owner] for owner in owners)
        if not known[node.name] or node.op in _FLOATS_FROM_FLOATS:
            continue
        if node.op != "Cast" or node.attr["DstT"].type not in _FLOATS:
            return False
    return True


def in_order(graph_def: Any) -> Iterator[Any]:
    """The nodes of a graph and of the functions that it calls.

    Only the graph's structure decides the order; names do not.
    """
    library = {f.signature.name: f.node_def for f in graph_def.library.function}
    seen: set[str] = set()

    def visit(nodes: Iterable[Any]) -> Iterator[Any]:
        for node in nodes:
            yield node
            for _, reference in references(node):
                if reference.name in library and reference.name not in seen:
                    seen.add(reference.name)
                    yield from visit(library[reference.name])

    return visit(graph_def.node)
