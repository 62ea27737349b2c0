"""Operations in forms that XLA executes faster on the CPU.

XLA divides a reduction of more than 32 numbers into windows of 32. Windows over several
axes are many times slower than the same sums as a matrix product. Windows over a long
row are slower than finding its largest number step by step.
On one core, the sum of [80, 20, 1024] over the first two axes takes 4.4 ms, and 0.8 ms
as a product. The place of the maximum of each row of [320, 10004] takes 3.9 ms in XLA's
form, and 2.4 ms in the form of this module.

A form has the values of TensorFlow's kernel, but sums are rounded differently. Forms
are for float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
import tensorflow as tf

# Shorter rows, and fewer columns, are left to XLA.
_LONG_ROW, _FEW_COLUMNS = 256, 8
# Rows of the factor of a sum. XLA calls a fast product for several rows only.
_FACTOR_ROWS = 8
_GROUP = 16


class Formed(NamedTuple):
    """The result of an operation in another form.

    Attributes:
      outputs: the values of the operation's outputs.
      violated: a bool scalar, whether XLA's outputs may differ from TensorFlow's
        (`guards`); None if they never differ.
    """

    outputs: list[tf.Tensor]
    violated: Optional[tf.Tensor] = None


def _sum(node: Any, inputs: Sequence[tf.Tensor]) -> Optional[Formed]:
    value = inputs[0]
    axes = _known_axes(inputs[1])
    if axes is None or value.shape.rank is None:
        return None
    reduced = sorted({int(axis) % value.shape.rank for axis in axes})
    # Over a single axis, the windows of XLA are fast.
    if len(reduced) < 2 or reduced != list(range(len(reduced))):
        return None
    total = _total(value, len(reduced))
    if total is None:
        return None
    if node.attr["keep_dims"].b:
        total = tf.reshape(total, [*[1] * len(reduced), *total.shape])
    return Formed([total])


def _bias_gradient(node: Any, inputs: Sequence[tf.Tensor]) -> Optional[Formed]:
    value = inputs[0]
    rank = value.shape.rank
    if node.attr["data_format"].s == b"NCHW" or rank is None or rank < 3:
        return None
    total = _total(value, rank - 1)
    return None if total is None else Formed([total])


def _total(value: tf.Tensor, axes: int) -> Optional[tf.Tensor]:
    """Sums over the first `axes` axes; returns None if XLA's own form is as good."""
    kept = value.shape[axes:]
    if not kept.is_fully_defined():
        return None
    columns = math.prod(kept)
    if columns < _FEW_COLUMNS:
        return None
    rows = tf.reshape(value, [-1, columns])
    ones = tf.ones([_FACTOR_ROWS, tf.shape(rows)[0]], value.dtype)
    return tf.reshape(tf.linalg.matmul(ones, rows)[0], kept)


def _known_axes(axes: tf.Tensor) -> Optional[Sequence[int]]:
    """Returns the axes of a reduction if they are known without sizes, else None."""
    known = tf.get_static_value(axes)
    if known is not None:
        return list(np.reshape(known, [-1]))
    if axes.op.type != "BroadcastGradientArgs":
        return None
    # This is the gradient of an argument that was broadcast along the other's axes.
    shapes = [_known_shape(shape) for shape in axes.op.inputs]
    own, other = shapes[axes.value_index], shapes[1 - axes.value_index]
    if own is None or other is None or None in own:
        return None
    own = [1] * (len(other) - len(own)) + own
    return [axis for axis, size in enumerate(own) if size == 1]


def _known_shape(shape: tf.Tensor) -> Optional[list[Any]]:
    """Returns the sizes in a tensor that holds a shape; an unknown size is None.

    The result is None if nothing is known.
    """
    known = tf.get_static_value(shape)
    if known is not None:
        return list(known)
    if shape.op.type not in ("Shape", "ShapeN"):
        return None
    static = shape.op.inputs[shape.value_index].shape
    return None if static.rank is None else static.as_list()


def _largest(rows: tf.Tensor) -> tf.Tensor:
    """Finds the maximum of each row of a matrix with a known number of columns."""
    while rows.shape[1] > 2 * _GROUP:
        whole = rows.shape[1] // _GROUP * _GROUP
        # Numbers of a group are far apart, so that many groups are compared at once.
        groups = tf.reshape(rows[:, :whole], [-1, _GROUP, whole // _GROUP])
        found = tf.reduce_max(groups, 1)
        rows = tf.concat([found, rows[:, whole:]], 1)
    return tf.reduce_max(rows, 1)


def _argmax(node: Any, inputs: Sequence[tf.Tensor]) -> Optional[Formed]:
    value = inputs[0]
    axis = tf.get_static_value(inputs[1])
    if axis is None or not value.shape.rank:
        return None
    count = value.shape[-1]
    if int(axis) % value.shape.rank != value.shape.rank - 1 or not count:
        return None
    if count < _LONG_ROW:
        return None
    rows = tf.reshape(value, [-1, count])
    largest = _largest(rows)
    # The largest negated place belongs to the first maximum.
    places = tf.where(rows == largest[:, tf.newaxis], -tf.range(count), -count)
    found = tf.reshape(-_largest(places), tf.shape(value)[:-1])
    # The maximum of a row with NaN is NaN.
    return Formed(
        [tf.cast(found, node.attr["output_type"].type)],
        tf.reduce_any(tf.math.is_nan(largest)),
    )


def _cross_entropy(node: Any, inputs: Sequence[tf.Tensor]) -> Optional[Formed]:
    del node
    logits, labels = inputs
    count = logits.shape[-1]
    if not count or count < _LONG_ROW:
        return None
    shifted = logits - _largest(logits)[:, tf.newaxis]
    powers = tf.exp(shifted)
    sums = tf.reduce_sum(powers, 1)
    outside = (labels < 0) | (labels >= count)
    place = tf.where(outside, tf.zeros_like(labels), labels)
    loss = tf.math.log(sums) - tf.gather(shifted, place, axis=1, batch_dims=1)
    gradient = powers / sums[:, tf.newaxis] - tf.one_hot(labels, count)
    return Formed([loss, gradient], tf.reduce_any(outside))


_FORMS: dict[str, Callable[[Any, Sequence[tf.Tensor]], Optional[Formed]]] = {
    "Sum": _sum,
    "BiasAddGrad": _bias_gradient,
    "ArgMax": _argmax,
    "SparseSoftmaxCrossEntropyWithLogits": _cross_entropy,
}


def has_form(node: Any) -> bool:
    """Whether a NodeDef may have another form.

    The forms are for the CPU: a process that sees GPUs leaves the operations to XLA.
    """
    if node.op not in _FORMS or node.attr["T"].type != tf.float32.as_datatype_enum:
        return False
    return not tf.config.get_visible_devices("GPU")


def formed(node: Any, inputs: Sequence[tf.Tensor]) -> Optional[Formed]:
    """Computes a node in another form.

    Args:
      node: a NodeDef for which `has_form` is true.
      inputs: the values of the node's inputs.

    Returns:
      The outputs. None if XLA's own form is as fast, or if too little is known of the
      inputs.
    """
    return _FORMS[node.op](node, inputs)
