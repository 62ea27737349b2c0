"""Adds to rows of a large tensor without copying the tensor.

In TensorFlow's executor, `tf.tensor_scatter_nd_add` always copies its tensor. So an
accumulator of a few hundred megabytes would be copied for every client that adds a row.
`ScatterNdNonAliasingAdd` computes the same result, and writes into the tensor's buffer
if no other operation uses the buffer. XLA does not know this operation, and reuses
buffers without it.
"""

from __future__ import annotations

from typing import Any

_COPYING = "TensorScatterAdd"
_REUSING = "ScatterNdNonAliasingAdd"


def reuse_buffers(graph_def: Any) -> int:
    """Makes a graph's scattered additions write into their tensors if possible.

    Args:
      graph_def: a GraphDef, which is changed in place; functions of its loops and
        branches do not change. Not for XLA or `tf.vectorized_map`, which know only the
        operation that copies.

    Returns:
      The number of replaced operations.
    """
    replaced = 0
    for node in graph_def.node:
        if node.op == _COPYING:
            node.op = _REUSING
            for name in set(node.attr) - {"T", "Tindices"}:
                node.attr.pop(name)
            replaced += 1
    return replaced
