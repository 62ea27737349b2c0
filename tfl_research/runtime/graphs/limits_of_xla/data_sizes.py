"""Refuses operations that XLA computes wrongly along sizes that depend on data.

A model that mixes the examples of a batch takes a padded batch without its padding. XLA
knows the largest size of such a batch, and computes the size when the program runs.
Sums, means, products and most other operations only cover the real examples. The
operations of this module also cover padding: XLA returns the last row of the padding
for `x[-1]`, sums padding in a `tf.cumsum`, and cuts the gradients of joined batches in
the wrong places. In a trial, a Cholesky decomposition probably ended the process. A
program for XLA with such an operation is refused.

Clients that are executed at once share one size. TensorFlow stacks their tensors, and
XLA does not see that the sizes differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Optional

import tensorflow as tf


def _axes_without_size(tensor: tf.Tensor) -> list[int]:
    """Returns the axes whose size is not known before the program runs."""
    if tensor.shape.rank is None:
        return []
    return [axis for axis, size in enumerate(tensor.shape) if size is None]


def _lacks_size(tensor: tf.Tensor, axes: Optional[Sequence[Any]] = None) -> bool:
    """Whether one of some axes, by default of all, has a size that is not known.

    Args:
      tensor: the tensor.
      axes: positions from the first axis, or negative ones from the last axis.
    """
    found = _axes_without_size(tensor)
    if axes is None or not found:
        return bool(found)
    return any(int(axis) % tensor.shape.rank in found for axis in axes)


def _along(position: int) -> Callable[[Any], bool]:
    """Makes a check whose axis is the value of the input at a position."""

    def check(op: Any) -> bool:
        axis = tf.get_static_value(op.inputs[position])
        return _lacks_size(op.inputs[0], None if axis is None else [axis])

    return check


def _matrices(op: Any) -> bool:
    """Whether an operation takes or gives matrices with a size that is not known."""
    tensors = [op.inputs[0], op.outputs[0]]
    return any(_lacks_size(t, range(-min(2, t.shape.rank or 0), 0)) for t in tensors)


def _images(op: Any) -> bool:
    """Whether an operation has images, or gradients of images, of an unknown size."""
    tensors = [t for t in (*op.inputs, *op.outputs) if (t.shape.rank or 0) >= 4]
    return any(axis > 0 for t in tensors for axis in _axes_without_size(t))


def _any(op: Any) -> bool:
    return _lacks_size(op.inputs[0])


def _sequences(op: Any) -> bool:
    return _lacks_size(op.inputs[0], [op.get_attr("seq_dim")])


def _joined(op: Any) -> bool:
    """Whether two tensors are joined along an axis of unknown size."""
    values, axis = list(op.inputs[:-1]), tf.get_static_value(op.inputs[-1])
    if op.type == "Concat":
        values, axis = list(op.inputs[1:]), tf.get_static_value(op.inputs[0])
    axes = None if axis is None else [axis]
    return sum(_lacks_size(value, axes) for value in values) > 1


def _divided(op: Any) -> bool:
    """Whether a tensor is divided into equal parts along an axis of unknown size."""
    value, axis = op.inputs[1], op.inputs[0]
    if op.type == "SplitV":
        value, axis = op.inputs[0], op.inputs[2]
    known = tf.get_static_value(axis)
    return _lacks_size(value, None if known is None else [known])


def _mirrored(op: Any) -> bool:
    known = tf.get_static_value(op.inputs[1])
    if known is None:
        return _any(op)
    return _lacks_size(op.inputs[0], [i for i, pair in enumerate(known) if pair.any()])


def _range(op: Any) -> bool:
    """Whether a range decreases, or its first number depends on data."""
    start, _, delta = map(tf.get_static_value, op.inputs)
    return _lacks_size(op.outputs[0]) and (start is None or delta is None or delta < 0)


def _repeated(op: Any) -> bool:
    return tf.get_static_value(op.inputs[1]) is None and _lacks_size(op.outputs[0])


def _slice(op: Any) -> bool:
    """Whether a slice begins at a position that depends on data.

    The slices in the gradients of joined tensors do not.
    """
    value, begin = op.inputs[:2]
    if begin.op.type == "ConcatOffset" or tf.get_static_value(begin) is not None:
        return False
    return _lacks_size(value)


def _strided(op: Any) -> bool:
    """Whether positions are counted from the end, as in `x[-2:]` and `x[-1]`."""
    value, begin = op.inputs[0], tf.get_static_value(op.inputs[1])
    if begin is None or not _lacks_size(value):
        return False
    return any(
        place < 0 and _lacks_size(value, [axis])
        for axis, place in _positions(op, begin)
    )


def _positions(op: Any, begin: Any) -> list[tuple[int, int]]:
    """The axes of a strided slice that have a first position, and the positions."""
    ellipsis, new = op.get_attr("ellipsis_mask"), op.get_attr("new_axis_mask")
    masked, rank = op.get_attr("begin_mask"), op.inputs[0].shape.rank
    later = [
        i
        for i in range(len(begin))
        if ellipsis and (1 << i) > ellipsis and not (new >> i) & 1
    ]
    axis, found = 0, []
    for i, place in enumerate(begin):
        if (ellipsis >> i) & 1:
            axis = rank - len(later)
        elif not (new >> i) & 1:
            if not (masked >> i) & 1:
                found.append((axis, int(place)))
            axis += 1
    return found


_WRONG: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("Cumsum", "Cumprod"), _along(1)),
    **dict.fromkeys(
        (
            "Cholesky",
            "Diag",
            "DiagPart",
            "MatrixBandPart",
            "MatrixDiag",
            "MatrixDiagPart",
            "MatrixDiagPartV2",
            "MatrixDiagPartV3",
            "MatrixDiagV2",
            "MatrixDiagV3",
            "MatrixSetDiag",
            "MatrixSetDiagV2",
            "MatrixSetDiagV3",
        ),
        _matrices,
    ),
    **dict.fromkeys(
        (
            "AvgPool",
            "AvgPool3D",
            "AvgPool3DGrad",
            "AvgPoolGrad",
            "Conv2D",
            "Conv2DBackpropFilter",
            "Conv2DBackpropInput",
            "Conv3D",
            "Conv3DBackpropFilterV2",
            "Conv3DBackpropInputV2",
            "DepthToSpace",
            "DepthwiseConv2dNative",
            "DepthwiseConv2dNativeBackpropFilter",
            "DepthwiseConv2dNativeBackpropInput",
            "MaxPool",
            "MaxPool3D",
            "MaxPool3DGrad",
            "MaxPoolGrad",
            "MaxPoolGradV2",
            "MaxPoolV2",
            "ResizeNearestNeighbor",
            "SpaceToDepth",
        ),
        _images,
    ),
    **dict.fromkeys(("BatchToSpaceND", "SpaceToBatchND"), _any),
    **dict.fromkeys(("Concat", "ConcatV2"), _joined),
    **dict.fromkeys(("Split", "SplitV"), _divided),
    **dict.fromkeys(("MirrorPad", "MirrorPadGrad"), _mirrored),
    "Range": _range,
    "ReverseSequence": _sequences,
    "Slice": _slice,
    "StridedSlice": _strided,
    "Tile": _repeated,
}
# Positions of the inputs that give an operation's result its sizes.
_GIVES_SIZE: dict[str, Sequence[int]] = {
    "BroadcastTo": (1,),
    "Fill": (0,),
    "Pad": (1,),
    "PadV2": (1,),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Slice": (1, 2),
    "StridedSlice": (1, 2),
    "Tile": (1,),
}


def is_concerned(node: Any) -> bool:
    """Whether `check` must look at the operation that is made from a NodeDef."""
    return node.op in _WRONG or node.op in _GIVES_SIZE


def check(op: tf.Operation, *, at_once: bool) -> None:
    """Refuses an operation in a program for XLA.

    Args:
      op: the operation, made from a node that is concerned.
      at_once: whether clients are executed at once.

    Raises:
      NotImplementedError: XLA's result would differ from TensorFlow's.
    """
    if at_once and _gives_size(op):
        raise NotImplementedError(
            f"the result of {op.type} ({op.name}) has a size that depends on data, but "
            "clients that are executed together must have the same size"
        )
    if op.type in _WRONG and _WRONG[op.type](op):
        raise NotImplementedError(
            f"XLA computes {op.type} ({op.name}) wrongly along a size that depends on "
            "data"
        )


def _gives_size(op: tf.Operation) -> bool:
    positions = _GIVES_SIZE.get(op.type, ())
    known = all(tf.get_static_value(op.inputs[i]) is not None for i in positions)
    return not known and _lacks_size(op.outputs[0])
