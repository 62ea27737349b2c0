"""Checks lists of tensors, which a `tf.TensorArray` and the gradient of a loop use.

XLA holds a list in a buffer of its largest size, and moves a place out of range into
the range. TensorFlow's kernels fail in this case. Under XLA, a list that grows and
shrinks always has its largest size, so its length differs from TensorFlow's. This does
not affect the gradient of a loop, which pushes once in each iteration, and pops as
often.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf

from tfl_research.runtime.graphs.bodies import Library
from tfl_research.runtime.graphs.operations import LOOPS

_PUSH_AND_POP = frozenset({"TensorListPushBack", "TensorListPopBack"})
# TensorFlow's names of the lists of a loop's gradient.
_OF_GRADIENT = re.compile(r"(.*/)?accumulator(_\d+)?")


def out_of_range(op: tf.Operation) -> tf.Tensor:
    """Whether a place that an operation reads or writes is outside of the list."""
    handle, places = op.inputs[0], op.inputs[1]
    length = tf.raw_ops.TensorListLength(input_handle=handle)
    return tf.reduce_any((places < 0) | (places >= length))


def has_number(node: Any) -> bool:
    """Whether a NodeDef `TensorListStack` says how many elements there are."""
    return node.attr["num_elements"].i >= 0


def has_other_length(op: tf.Operation) -> Any:
    """Whether a stacked list's length differs from the one that the operation says."""
    number = op.get_attr("num_elements")
    if number < 0:
        return None
    return tf.not_equal(tf.raw_ops.TensorListLength(input_handle=op.inputs[0]), number)


def growing(library: Library, nodes: Iterable[Any]) -> Iterator[Any]:
    """Returns the nodes that make, grow or shrink a list of changing length.

    Nodes of a loop's gradient are left out.

    Args:
      library: the functions that nodes call.
      nodes: the nodes of a graph, with the nodes of its functions.
    """
    nodes = list(nodes)
    in_loops = {
        id(inner)
        for node in nodes
        if node.op in LOOPS
        for name in library.called(node)
        for inner in library.reachable(library.body(name).nodes.values())
    }
    for node in nodes:
        if node.op == "EmptyTensorList":
            if not _OF_GRADIENT.fullmatch(node.name):
                yield node
        elif node.op in _PUSH_AND_POP and id(node) not in in_loops:
            yield node
