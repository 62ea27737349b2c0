"""Guards: conditions under which XLA computes a result but TensorFlow fails.

TensorFlow's kernels fail on an index or a label out of range. XLA clamps an index, and
gives NaN for a label. A float that does not fit into an integer becomes another integer
than in TensorFlow, and NaN has another place in results (`special_values`). So a
program for XLA also computes whether a guard was violated. If so, the runtime ignores
its results, and executes the same clients in TensorFlow's executor. So bad values have
the same consequences everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import tensorflow as tf

from tfl_research.runtime.graphs import lists
from tfl_research.runtime.graphs.limits_of_xla import special_values


def gathered(params: tf.Tensor, indices: tf.Tensor, axis: Any) -> Any:
    """Whether an index of a gather is out of range along `axis`."""
    size = tf.cast(tf.gather(tf.shape(params), axis), indices.dtype)
    return tf.reduce_any((indices < 0) | (indices >= size))


def _gather(op: Any) -> Any:
    params, indices, axis = op.inputs
    return gathered(params, indices, axis)


def _points(shape: tf.Tensor, indices: tf.Tensor) -> Any:
    """Whether index tuples `[..., depth]` lie outside of a tensor's shape."""
    limits = tf.cast(shape, indices.dtype)[: indices.shape[-1]]
    return tf.reduce_any((indices < 0) | (indices >= limits))


def _gather_nd(op: Any) -> Any:
    return _points(tf.shape(op.inputs[0]), op.inputs[1])


def _scatter_nd(op: Any) -> Any:
    return _points(op.inputs[2], op.inputs[0])


def _labels(op: Any) -> Any:
    logits, labels = op.inputs
    classes = tf.cast(tf.shape(logits)[-1], labels.dtype)
    return tf.reduce_any((labels < 0) | (labels >= classes))


def _segments(op: Any) -> Any:
    ids, number = op.inputs[1], op.inputs[2]
    return tf.reduce_any(ids >= tf.cast(number, ids.dtype))


def _division(op: Any) -> Any:
    divisor = op.inputs[1]
    return tf.reduce_any(tf.equal(divisor, 0)) if divisor.dtype.is_integer else None


def _strided(op: Any) -> Any:
    """Whether a position `x[i]` is out of range; ranges `x[i:j]` are always valid."""
    tensor, begin = op.inputs[0], op.inputs[1]
    shrink = op.get_attr("shrink_axis_mask")
    ellipsis, new = op.get_attr("ellipsis_mask"), op.get_attr("new_axis_mask")
    begin_mask = op.get_attr("begin_mask")
    if not shrink or tf.get_static_value(begin) is not None:
        return None
    length = begin.shape[0]
    shape, rank = tf.shape(tensor), tf.rank(tensor)
    after = sum(
        not (new >> i) & 1 for i in range(length) if ellipsis and ellipsis < (1 << i)
    )
    axis: Any = 0
    bad = []
    for i in range(length):
        if (ellipsis >> i) & 1:
            axis = rank - after
        elif (new >> i) & 1:
            continue
        else:
            if (shrink >> i) & 1 and not (begin_mask >> i) & 1:
                size = tf.cast(tf.gather(shape, axis), begin.dtype)
                bad.append((begin[i] >= size) | (begin[i] < -size))
            axis += 1
    return tf.reduce_any(tf.stack(bad)) if bad else None


def _slice(op: Any) -> Any:
    tensor, begin, size = op.inputs
    if tf.get_static_value(begin) is not None:
        return None
    end = begin + tf.maximum(size, 0)
    return tf.reduce_any((begin < 0) | (end > tf.shape(tensor, out_type=begin.dtype)))


def _permutation(op: Any) -> Any:
    places = op.inputs[0]
    if tf.get_static_value(places) is not None:
        # TensorFlow's kernel fails when XLA compiles the program.
        return None
    expected = tf.range(tf.size(places, places.dtype), dtype=places.dtype)
    return tf.reduce_any(tf.sort(places) != expected)


def _not_finite(tensor: tf.Tensor) -> Any:
    return tf.reduce_any(~tf.math.is_finite(tensor))


def _solved(op: Any) -> Any:
    first = op.outputs[0]
    values = tf.abs(first) if first.dtype.is_complex else first
    return _not_finite(values)


def _cast(op: Any) -> Any:
    """Whether the integer type cannot hold a float; each compiler's result differs."""
    value, to = op.inputs[0], op.outputs[0].dtype
    if not (value.dtype.is_floating and to.is_integer):
        return None
    # The limits are powers of two, which every float type can represent.
    limit = 2.0 ** (8 * to.size - (0 if to.is_unsigned else 1))
    wide = tf.cast(value, tf.float64)
    above = wide > -1.0 if to.is_unsigned else wide >= -limit
    return tf.reduce_any(~(above & (wide < limit)))


def _constant(position: int) -> Callable[[Any], Any]:
    """Refuses diagonals' numbers that are no constants: XLA would end the process."""

    def check(op: Any) -> None:
        if tf.get_static_value(op.inputs[position]) is None:
            raise NotImplementedError(
                f"XLA cannot compile {op.type} with diagonals that depend on data"
            )

    return check


_GUARDS: dict[str, Callable[[Any], Any]] = {
    "Gather": lambda op: gathered(op.inputs[0], op.inputs[1], 0),
    "GatherV2": _gather,
    "GatherNd": _gather_nd,
    "ScatterNd": _scatter_nd,
    **dict.fromkeys(
        (
            "TensorScatterAdd",
            "TensorScatterSub",
            "TensorScatterUpdate",
            "TensorScatterMax",
            "TensorScatterMin",
        ),
        _gather_nd,
    ),
    "SparseSoftmaxCrossEntropyWithLogits": _labels,
    **dict.fromkeys(
        (
            "UnsortedSegmentSum",
            "UnsortedSegmentMax",
            "UnsortedSegmentMin",
            "UnsortedSegmentProd",
        ),
        _segments,
    ),
    **dict.fromkeys(
        ("Div", "FloorDiv", "TruncateDiv", "RealDiv", "FloorMod", "Mod", "TruncateMod"),
        _division,
    ),
    "InvertPermutation": _permutation,
    "StridedSlice": _strided,
    "Slice": _slice,
    **dict.fromkeys(
        ("TensorListGetItem", "TensorListSetItem", "TensorListGather"),
        lists.out_of_range,
    ),
    "TensorListStack": lists.has_other_length,
    "Cast": _cast,
    "Cholesky": _solved,
    **dict.fromkeys(
        ("MatrixDiagV2", "MatrixDiagV3", "MatrixDiagPartV2", "MatrixDiagPartV3"),
        _constant(1),
    ),
    **dict.fromkeys(("MatrixSetDiagV2", "MatrixSetDiagV3"), _constant(2)),
}


def _guards(operation: str, dtype: Optional[tf.DType]) -> list[Callable[[Any], Any]]:
    """The guards of an operation on values of a type."""
    tables = [_GUARDS, special_values.OF_ALL]
    if dtype is not None and dtype.is_floating:
        tables.append(special_values.OF_FLOATS)
    elif dtype is not None and dtype.is_integer:
        tables.append(special_values.OF_INTEGERS)
    return [table[operation] for table in tables if operation in table]


def is_guarded(node: Any) -> bool:
    """Whether a NodeDef may need a guard under XLA."""
    # Operations with a list of types have no guard.
    kind = node.attr["T"].type if "T" in node.attr else 0
    dtype = tf.as_dtype(kind) if kind else None
    found = _guards(node.op, dtype)
    if found == [_strided]:
        return node.attr["shrink_axis_mask"].i != 0
    if found == [lists.has_other_length]:
        return lists.has_number(node)
    if found == [_division]:
        return dtype is not None and dtype.is_integer
    if found == [_cast]:
        source = tf.as_dtype(node.attr["SrcT"].type)
        return tf.as_dtype(node.attr["DstT"].type).is_integer and source.is_floating
    return bool(found)


def violation(op: tf.Operation) -> Optional[tf.Tensor]:
    """Whether TensorFlow's kernel of this operation would fail, or differ from XLA.

    Returns:
      A bool scalar; None for an operation that cannot fail or differ.

    Raises:
      NotImplementedError: XLA cannot compile the operation.
    """
    typed = any(attribute.name == "T" for attribute in op.op_def.attr)
    guards = _guards(op.type, op.get_attr("T") if typed else None)
    found = [one for one in (guard(op) for guard in guards) if one is not None]
    return tf.reduce_any(tf.stack(found)) if found else None


def failed_assertion(operation: str, value: tf.Tensor) -> tf.Tensor:
    """A bool scalar: whether an assertion about `value`, its first input, fails."""
    if operation == "Assert":
        return ~value
    return _not_finite(value)
