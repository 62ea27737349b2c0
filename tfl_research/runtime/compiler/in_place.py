"""Additions to rows of a large tensor, executed without copying it.

`tf.tensor_scatter_nd_add` copies its tensor in TensorFlow's own executor, whoever else
may need it. An accumulator of a few hundred megabytes to which every client adds one
row is then copied for every client. `ScatterNdNonAliasingAdd` computes the same, and
writes into the tensor's own buffer where nobody else holds it. XLA does that by
itself, and does not know the operation.
"""

from __future__ import annotations

from typing import Any

_COPYING = "TensorScatterAdd"
_REUSING = "ScatterNdNonAliasingAdd"


def reuse_buffers(graph_def: Any) -> int:
    """Has a graph's scattered additions write into their tensors where they can.

    Args:
      graph_def: a GraphDef, changed in place; functions of its loops and branches
        stay as they are. Not for XLA or `tf.vectorized_map`, which know only the
        operation that copies.

    Returns:
      How many operations were replaced.
    """
    replaced = 0
    for node in graph_def.node:
        if node.op == _COPYING:
            node.op = _REUSING
            for name in set(node.attr) - {"T", "Tindices"}:
                node.attr.pop(name)
            replaced += 1
    return replaced
