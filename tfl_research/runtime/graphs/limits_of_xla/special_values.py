"""Guards against arguments for which XLA's results differ from TensorFlow's kernels.

For example, the argmax of NaN and 1 is the place of the NaN under XLA, and the place of
the 1 in TensorFlow. Most of these values are NaN and infinity. Others are shifts by
more bits than an integer has, bounds in the wrong order, and numbers below the least
normal number.

A guard is a function of an operation. Its result is a bool scalar, whether an argument
has such a value, or None if the operation's arguments cannot have one.

Three cases have no guard, because a guard would cost too much: the sign of a zero;
numbers below the least normal one that are rounded to zero; and sums or products of
finite values with partial results that are infinite in only one order of the terms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import numpy as np
import tensorflow as tf

Guard = Callable[[Any], Optional[tf.Tensor]]

_BITS = {2: tf.int16, 4: tf.int32, 8: tf.int64}


def _any(*found: tf.Tensor) -> tf.Tensor:
    return tf.reduce_any(tf.stack([tf.reduce_any(one) for one in found]))


def _is_nan(*positions: int) -> Guard:
    return lambda op: _any(*(tf.math.is_nan(op.inputs[i]) for i in positions))


def _is_not_finite(*positions: int) -> Guard:
    return lambda op: _any(*(~tf.math.is_finite(op.inputs[i]) for i in positions))


def _is_not_below_infinity(op: Any) -> tf.Tensor:
    return _any(~(op.inputs[0] < np.inf))


def _is_not_above_minus_infinity(op: Any) -> tf.Tensor:
    return _any(~(op.inputs[0] > -np.inf))


def _exceeds_one(op: Any) -> tf.Tensor:
    return _any(~(tf.abs(op.inputs[0]) <= 1))


def _result_is_not_finite(op: Any) -> tf.Tensor:
    """Guards derivatives in which TensorFlow treats 0 times NaN, or 0 / 0, as 0."""
    return _any(~tf.math.is_finite(op.outputs[0]))


def _is_no_positive(op: Any) -> tf.Tensor:
    return _any(~(op.inputs[0] > 0))


def _squares_overflow(op: Any) -> tf.Tensor:
    floats = [value for value in op.inputs if value.dtype.is_floating]
    limit = {v.dtype: np.sqrt(np.sqrt(v.dtype.max.astype(np.float64))) for v in floats}
    return _any(
        *(~(tf.abs(v) < tf.cast(limit[v.dtype], v.dtype)) for v in floats if v.shape)
    )


def _below_normal(value: tf.Tensor, *, zeros: bool = False) -> tf.Tensor:
    """Finds numbers that are not zero, but below the least normal number.

    Args:
      value: floats.
      zeros: whether -0.0 also counts.
    """
    kind = _BITS[value.dtype.size]
    bits = tf.bitcast(value, kind)
    magnitude = bits & kind.max
    least = (
        np.array(np.finfo(value.dtype.as_numpy_dtype).tiny)
        if (value.dtype != tf.bfloat16)
        else np.array(2.0**-126, np.float32)
    )
    limit = int(least.view(f"i{least.itemsize}"))
    if value.dtype == tf.bfloat16:
        limit >>= 16
    return (bits != 0 if zeros else magnitude != 0) & (magnitude < limit)


def _power(op: Any) -> Optional[tf.Tensor]:
    exponent = op.inputs[1]
    if exponent.dtype.is_floating:
        return _any(_below_normal(exponent))
    bits = tf.cast(8 * exponent.dtype.size, exponent.dtype)
    negative = exponent < tf.zeros([], exponent.dtype)
    return _any(negative | (exponent > bits))


def _angle(op: Any) -> tf.Tensor:
    return _any(*(_below_normal(value) for value in op.inputs))


def _largest(op: Any) -> tf.Tensor:
    """Guards a maximum: TensorFlow treats 0.0 and -0.0 as equal, XLA does not."""
    values = op.inputs[0]
    return _any(tf.math.is_nan(values), _below_normal(values, zeros=True))


def _shift(op: Any) -> Optional[tf.Tensor]:
    bits = 8 * op.inputs[1].dtype.size
    known = tf.get_static_value(op.inputs[1])
    if known is not None and np.all((known >= 0) & (known < bits)):
        return None
    amount = op.inputs[1]
    limit = tf.cast(bits, amount.dtype)
    return _any((amount < tf.zeros([], amount.dtype)) | (amount >= limit))


def _bounds(op: Any) -> Optional[tf.Tensor]:
    low, high = op.inputs[1:]
    known = [tf.get_static_value(low), tf.get_static_value(high)]
    if all(k is not None for k in known) and np.all(known[0] <= known[1]):
        return _is_nan(0)(op) if low.dtype.is_floating else None
    if low.dtype.is_floating:
        return _any(~(low <= high), tf.math.is_nan(op.inputs[0]))
    return _any(~(low <= high))


def _mean(op: Any) -> tf.Tensor:
    """Guards means of integers: sums that overflow, and quotients that are rounded."""
    values, axis = op.inputs
    wide = tf.cast(values, tf.float64)
    total = tf.reduce_sum(wide, axis)
    mean = tf.reduce_mean(wide, axis)
    outside = (total < values.dtype.min) | (total > values.dtype.max)
    return _any(outside | (mean != tf.floor(mean)) & (mean < 0))


def _lengths(op: Any) -> tf.Tensor:
    lengths = op.inputs[1]
    size = tf.shape(op.inputs[0], lengths.dtype)[op.get_attr("seq_dim")]
    return _any((lengths < 0) | (lengths > size))


def _band(op: Any) -> tf.Tensor:
    matrix, lower, upper = op.inputs
    shape = tf.shape(matrix, lower.dtype)
    return _any(lower > shape[-2], upper > shape[-1])


_MEETS_PADDING = _is_not_finite(1)

OF_FLOATS: dict[str, Guard] = {
    **dict.fromkeys(("ArgMax", "ArgMin"), _is_nan(0)),
    "TopKV2": _largest,
    "Softmax": _is_not_below_infinity,
    **dict.fromkeys(
        (
            "MaxPool",
            "MaxPoolV2",
            "MaxPool3D",
            "MaxPoolGrad",
            "MaxPoolGradV2",
            "MaxPool3DGrad",
        ),
        _is_not_above_minus_infinity,
    ),
    # TensorFlow multiplies padding, zeros, with the kernel; XLA does not.
    **dict.fromkeys(
        (
            "Conv2D",
            "Conv2DBackpropInput",
            "Conv3D",
            "Conv3DBackpropInputV2",
            "DepthwiseConv2dNative",
            "DepthwiseConv2dNativeBackpropInput",
        ),
        _MEETS_PADDING,
    ),
    **dict.fromkeys(
        (
            "Conv2DBackpropFilter",
            "Conv3DBackpropFilterV2",
            "DepthwiseConv2dNativeBackpropFilter",
        ),
        _is_not_finite(2),
    ),
    **dict.fromkeys(
        (
            "FusedBatchNorm",
            "FusedBatchNormV2",
            "FusedBatchNormV3",
            "FusedBatchNormGrad",
            "FusedBatchNormGradV2",
            "FusedBatchNormGradV3",
        ),
        _squares_overflow,
    ),
    "EluGrad": _is_nan(1),
    **dict.fromkeys(("ReluGrad", "Relu6Grad"), _is_not_finite(0)),
    **dict.fromkeys(("RsqrtGrad", "SqrtGrad", "ReciprocalGrad"), _result_is_not_finite),
    **dict.fromkeys(("SigmoidGrad", "Erfinv"), _exceeds_one),
    "Atan2": _angle,
    "Lgamma": _is_no_positive,
    "Pow": _power,
    "LinSpace": _is_not_finite(0, 1),
    "ClipByValue": _bounds,
    **dict.fromkeys(("UnsortedSegmentMax", "UnsortedSegmentMin"), _is_nan(0)),
    **dict.fromkeys(("TensorScatterMax", "TensorScatterMin"), _is_nan(0, 2)),
}
OF_INTEGERS: dict[str, Guard] = {
    **dict.fromkeys(("LeftShift", "RightShift"), _shift),
    "ClipByValue": _bounds,
    "Pow": _power,
    "Mean": _mean,
}
OF_ALL: dict[str, Guard] = {
    "ReverseSequence": _lengths,
    "MatrixBandPart": _band,
}
