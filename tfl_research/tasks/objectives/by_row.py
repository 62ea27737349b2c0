"""Functions of one row of tensors, for each of many rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfl_research import _tff_compat

# Operations in which the arguments' values decide how many elements the results have.
# `tf.vectorized_map` stacks the results of all rows, which fails for different sizes.
_SIZED_BY_VALUES = (
    "DynamicPartition",
    "ListDiff",
    "NonMaxSuppression",
    "Ragged",
    "SparseFillEmptyRows",
    "SparseSlice",
    "StringSplit",
    "Unique",
    "Where",
)


def mapped(function: Callable[[Any], Any], rows: Any) -> Any:
    """The function's results for each row, `[rows, ...]` each.

    The rows are vectorised, unless sizes within the function depend on values.

    Args:
      function: takes tensors or a structure of them, and returns the same.
      rows: tensors `[rows, ...]`, in the same structure.
    """
    rows = tf.nest.map_structure(tf.convert_to_tensor, rows)
    specs = tf.nest.map_structure(lambda r: tf.TensorSpec(r.shape[1:], r.dtype), rows)
    traced = tf.function(function, autograph=False).get_concrete_function(specs)
    nodes = _tff_compat.called_nodes(traced.graph.as_graph_def())
    if not any(node.op.startswith(_SIZED_BY_VALUES) for node in nodes):
        return tf.vectorized_map(function, rows)
    results = tf.nest.map_structure(
        lambda r: tf.TensorSpec(r.shape, r.dtype), traced.structured_outputs
    )
    return tf.map_fn(function, rows, fn_output_signature=results)
