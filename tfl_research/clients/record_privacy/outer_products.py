"""Represents per-example gradients of dense layers by two vectors, without a matrix.

An example's gradient of a kernel W in x W is the outer product of the layer's input a
and the gradient g of its output. Its squared l2 norm is |a|^2 |g|^2 (Goodfellow 2015,
arXiv 1510.01799), and the sum of scaled examples is one product of matrices (Li et al.
2022, arXiv 2110.05679, "ghost clipping"). So no matrix is made for each example.
"""

from __future__ import annotations

from typing import NamedTuple, Union

import tensorflow as tf


class OuterProducts(NamedTuple):
    """Matrices `rows[i, :, None] * columns[i, None, :]` of examples i.

    Attributes:
      rows: float32 `[examples, m]`; `[m]` for one example.
      columns: float32 `[examples, n]`; `[n]` for one example.
    """

    rows: tf.Tensor
    columns: tf.Tensor


# The least normal float32.
_LEAST_NORMAL = 2.0**-126
# The gradients of a weight, `[examples, ...]`.
Gradient = Union[tf.Tensor, OuterProducts]


def factors_of(gradient: tf.Tensor) -> Gradient:
    """Returns the factors of a gradient that is one outer product; others unchanged.

    The operation that computes the gradient decides: it must be a product of `[1, m]`,
    transposed, and `[1, n]`. If a weight is used twice, has a penalty, or is applied to
    a sequence, the operation is another one: a sum, or a product of larger matrices.

    Args:
      gradient: float32 `[m, n]`, of one example, in a graph.
    """
    operation = gradient.op
    if operation.type != "MatMul" or gradient.dtype != tf.float32:
        return gradient
    if not operation.get_attr("transpose_a") or operation.get_attr("transpose_b"):
        return gradient
    rows, columns = operation.inputs
    if 0 in gradient.shape:
        return gradient
    if rows.shape[0] != 1 or not rows.shape.is_fully_defined():
        return gradient
    if columns.shape[0] != 1 or not columns.shape.is_fully_defined():
        return gradient
    return OuterProducts(rows[0], columns[0])


def squared_norms(gradient: Gradient) -> tf.Tensor:
    """Computes each example's squared l2 norm, float64 `[examples]`.

    The norm is not finite if an entry of the float32 gradient is not finite.
    """
    if not isinstance(gradient, OuterProducts):
        axes = list(range(1, gradient.shape.rank))
        return tf.reduce_sum(tf.square(tf.cast(gradient, tf.float64)), axis=axes)
    rows, columns = gradient
    # In float32, so that it overflows if the largest entry of the gradient does.
    largest = _largest(rows) * _largest(columns)
    squares = _squared_norms(rows) * _squared_norms(columns)
    return tf.where(tf.math.is_finite(largest), squares, tf.cast(largest, tf.float64))


def scaled_sum(gradient: OuterProducts, factors: tf.Tensor) -> tf.Tensor:
    """Sums the examples' matrices times their factors, float32 `[m, n]`.

    Examples with factor 0 are ignored, even if they have a NaN. The product must have
    float32's precision: with TF32 or bfloat16, an example could exceed the clip by 0.1%
    or 0.8%.

    Args:
      gradient: the examples' matrices.
      factors: float64 `[examples]`, from 0 to 1.
    """
    rows, columns = gradient
    one, zero = tf.ones_like(factors), tf.zeros_like(factors)
    # Both vectors get the same norm, since one vector times a tiny factor could be
    # subnormal, where float32 is imprecise. A factor of 1 changes no bit.
    of_rows, of_columns = _squared_norms(rows), _squared_norms(columns)
    changed = (
        (factors > zero) & (factors < one) & (of_rows > zero) & (of_columns > zero)
    )
    balance = tf.where(changed, tf.sqrt(tf.sqrt(of_columns / of_rows)), one)
    root = tf.sqrt(factors)
    return tf.matmul(
        _times(rows, tf.where(changed, root * balance, factors)),
        _times(columns, tf.where(changed, root / balance, factors)),
        transpose_a=True,
    )


def _largest(vectors: tf.Tensor) -> tf.Tensor:
    return tf.reduce_max(tf.abs(vectors), axis=1)


def _squared_norms(vectors: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.square(_in_float64(vectors)), axis=1)


def _times(vectors: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Multiplies vectors by the factors of examples, and rounds once."""
    exact = tf.math.multiply_no_nan(_in_float64(vectors), factors[:, tf.newaxis])
    return tf.cast(exact, tf.float32)


def _in_float64(vectors: tf.Tensor) -> tf.Tensor:
    """Converts vectors to float64, with zeros for subnormal numbers.

    Some operations of TensorFlow treat subnormal numbers as zeros, others do not. Norm
    and product must agree, since a subnormal number times 1e38 is not small.
    """
    subnormal = tf.abs(vectors) < _LEAST_NORMAL
    return tf.cast(tf.where(subnormal, tf.zeros_like(vectors), vectors), tf.float64)
