"""Applies functions of one row of tensors to many rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfl_research import _tff_compat, autograph, interrupts

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


# Operations on numbers, which compute each number of a vector on its own.
_OF_NUMBERS = frozenset(
    (
        *("Abs", "Add", "AddV2", "Cast", "Div", "DivNoNan", "Identity", "Maximum"),
        *("Minimum", "Mul", "MulNoNan", "Neg", "RealDiv", "Sqrt", "Square", "Sub"),
        *("Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual"),
        *("LogicalAnd", "LogicalNot", "LogicalOr", "SelectV2", "Const", "Placeholder"),
    )
)


def mapped(function: Callable[[Any], Any], rows: Any) -> Any:
    """Applies a function to each row; returns tensors `[rows, ...]`.

    The function is vectorised over rows, unless sizes within it depend on values.

    Args:
      function: takes tensors or a structure of them, and returns the same.
      rows: tensors `[rows, ...]`, in the same structure.
    """
    function = autograph.converted_as_needed(function)
    rows = tf.nest.map_structure(tf.convert_to_tensor, rows)
    specs = tf.nest.map_structure(lambda r: tf.TensorSpec(r.shape[1:], r.dtype), rows)
    traced = tf.function(function, autograph=False).get_concrete_function(specs)
    nodes = list(_tff_compat.called_nodes(traced.graph.as_graph_def()))
    if not any(node.op.startswith(_SIZED_BY_VALUES) for node in nodes):
        at_once = _of_vectors(function, traced, rows)
        return tf.vectorized_map(function, rows) if at_once is None else at_once(rows)
    results = tf.nest.map_structure(
        lambda r: tf.TensorSpec(r.shape, r.dtype), traced.structured_outputs
    )
    return tf.map_fn(function, rows, fn_output_signature=results)


def _of_vectors(function: Any, of_numbers: Any, rows: Any) -> Any:
    """Traces the function for whole vectors, if that equals vectorising it.

    The two are equal for a function of scalars that consists of elementwise operations.
    This saves a tenth of a second, which vectorising takes.

    Args:
      function: takes one row.
      of_numbers: the function traced for one row.
      rows: tensors `[rows, ...]`.

    Returns:
      The traced function. None for functions of other operations, and for functions
      that treat vectors in another way.
    """
    if any(r.shape.rank != 1 for r in tf.nest.flatten(rows)):
        return None
    described = _described(of_numbers)
    if described is None:
        return None
    try:
        specs = tf.nest.map_structure(lambda r: tf.TensorSpec(r.shape, r.dtype), rows)
        traced = tf.function(function, autograph=False).get_concrete_function(specs)
    except Exception:  # noqa: BLE001  # Of a user's function of numbers: any.
        interrupts.check()
        return None
    vectors = all(output.shape.rank == 1 for output in traced.outputs)
    return traced if vectors and _described(traced) == described else None


def _described(traced: Any) -> Any:
    """Lists a scalar function's elementwise operations; None if it has others."""
    if traced.captured_inputs:
        return None
    found = []
    for node in traced.graph.as_graph_def().node:
        constant = node.attr["value"].tensor
        if node.op not in _OF_NUMBERS or constant.tensor_shape.dim:
            return None
        types = [(name, node.attr[name].type) for name in ("T", "SrcT", "DstT")]
        value = constant.SerializeToString(deterministic=True)
        found.append((node.name, node.op, tuple(node.input), types, value))
    results = [output.name for output in traced.outputs]
    structure = tf.nest.map_structure(lambda _: 0, traced.structured_outputs)
    return found, results, repr(structure)
