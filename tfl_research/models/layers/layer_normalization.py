"""Our own forward pass and gradient for Keras' layer normalisation.

TensorFlow's gradient of Keras' layer makes about 28 passes over the activations. Our
gradient makes about 13.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import tensorflow as tf

from tfl_research.models.layers import own_gradients


def own_call(layer: Any) -> Callable[[Any], Any]:
    """Returns the function that replaces a layer's `call`.

    Keras' own code still computes calls over an axis other than the last, over several
    axes, and of ragged inputs.
    """
    keras_call = layer.call

    @tf.autograph.experimental.do_not_convert
    def call(inputs: Any) -> Any:
        if not _normalizes_rows(layer, inputs):
            return keras_call(inputs)
        return _normalized(inputs, layer.gamma, layer.beta, layer.epsilon)

    return call


def _normalizes_rows(layer: Any, x: Any) -> bool:
    """Whether a call is over the last axis alone, whose size is known."""
    if not isinstance(x, tf.Tensor) or x.dtype != tf.float32:
        return False
    rank = x.shape.rank
    if rank is None or rank < 2 or not x.shape[-1]:
        return False
    weights = [w for w in (layer.gamma, layer.beta) if w is not None]
    # Keras broadcasts a single weight.
    return list(layer.axis) == [rank - 1] and all(
        w.shape == x.shape[-1:] for w in weights
    )


def _normalized(x: tf.Tensor, gamma: Any, beta: Any, epsilon: float) -> tf.Tensor:
    """Normalises the last axis.

    Args:
      x: float32 `[..., D]`.
      gamma, beta: `[D]`; None for none.
      epsilon: is added to the variance.
    """
    centred = x - tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
    root = tf.math.rsqrt(variance + epsilon)
    normal = output = centred * root
    weights = []
    if gamma is not None:
        weights.append(tf.convert_to_tensor(gamma))
        output *= weights[-1]
    if beta is not None:
        weights.append(tf.convert_to_tensor(beta))
        output += weights[-1]
    name, gradient = _GRADIENTS[gamma is not None, beta is not None]
    others = [x, normal, root, *weights]
    return own_gradients.attached(name, gradient, [output], others)[0]


def _gradient(*, scales: bool, shifts: bool) -> own_gradients.Gradient:
    """Returns the gradient of an operation that `_normalized` made.

    The gradient consists of operations with gradients, and reads tensors that
    TensorFlow differentiates. So higher derivatives are also right.
    """

    def gradient(op: Any, gradients: Any) -> list[Optional[tf.Tensor]]:
        _, _, normal, root, *weights = op.inputs
        of_output = gradients[0]
        width = normal.shape[-1]
        scaled, means = of_output, tf.ones([width])
        if scales:
            scaled, means = of_output * weights[0], weights[0]
        # The means over rows are products, which are faster than sums.
        means = tf.reshape(means, [width, 1]) / width
        product = of_output * normal
        mean = tf.tensordot(of_output, means, 1)
        along = tf.tensordot(product, means, 1)
        of_x = (scaled - normal * along - mean) * root
        found = [None, of_x, None, None]
        if scales:
            found.append(tf.raw_ops.BiasAddGrad(out_backprop=product))
        if shifts:
            found.append(tf.raw_ops.BiasAddGrad(out_backprop=of_output))
        return found

    return gradient


_GRADIENTS = own_gradients.by_weights("TflLayerNormalization", _gradient)
