"""Batch normalisations with as many channels as a batch has rows.

Keras' `LayerNormalization` normalises rows as the channels of `FusedBatchNormV3`, so
that a shorter batch has fewer channels. TensorFlow's oneDNN kernel keeps the number of
channels in a variable that concurrent calls share. If the calls of a loop's steps, or
of two chunks, have different numbers, the kernel writes beyond its outputs, and the
process ends. So programs compute such a normalisation by plain operations. This
concerns TFF's functional models and a user's own processes. Keras models of the toolkit
never use the kernel (`models.layers.normalizations`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import tensorflow as tf

_FORWARD = frozenset({"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"})
_BACKWARD = frozenset(
    {"FusedBatchNormGrad", "FusedBatchNormGradV2", "FusedBatchNormGradV3"}
)


def may_vary(node: Any) -> bool:
    """Whether a NodeDef normalises by the statistics of its argument."""
    if node.op not in _FORWARD | _BACKWARD or not node.attr["is_training"].b:
        return False
    # With any other factor, also 0, the node also uses means from outside.
    return node.op in _BACKWARD or node.attr["exponential_avg_factor"].f == 1.0


def plain(node: Any, inputs: Sequence[tf.Tensor]) -> Optional[list[tf.Tensor]]:
    """Computes a node for which `may_vary` is true, by plain operations.

    Args:
      node: a NodeDef.
      inputs: the values of the node's inputs.

    Returns:
      All outputs of the operation; None if the number of channels is known.
    """
    x = inputs[1] if node.op in _BACKWARD else inputs[0]
    is_first = node.attr["data_format"].s.startswith(b"NC")
    if x.shape.rank is None:
        return None
    channel = 1 if is_first else x.shape.rank - 1
    if x.shape[channel] is not None:
        return None
    axes = [axis for axis in range(x.shape.rank) if axis != channel]
    shape = [1] * x.shape.rank
    shape[channel] = -1
    epsilon = node.attr["epsilon"].f
    if node.op in _FORWARD:
        return _forward(inputs, axes, shape, epsilon)[: 5 + node.op.endswith("V3")]
    return _backward(inputs, axes, shape, epsilon)


def _count(x: tf.Tensor, axes: Sequence[int]) -> tf.Tensor:
    sizes = tf.gather(tf.shape(x), axes)
    return tf.cast(tf.reduce_prod(sizes), tf.float32)


def _forward(
    inputs: Sequence[tf.Tensor], axes: Sequence[int], shape: Any, epsilon: float
) -> list[tf.Tensor]:
    x, scale, offset = inputs[:3]
    wide = tf.cast(x, tf.float32)
    count = _count(x, axes)
    mean = tf.reduce_mean(wide, axes)
    shifted = wide - tf.reshape(mean, shape)
    variance = tf.reduce_mean(tf.square(shifted), axes)
    factor = tf.math.rsqrt(variance + epsilon) * scale
    y = shifted * tf.reshape(factor, shape) + tf.reshape(offset, shape)
    corrected = variance * (count / tf.maximum(count - 1, 1))
    return [tf.cast(y, x.dtype), mean, corrected, mean, variance, tf.zeros([])]


def _backward(
    inputs: Sequence[tf.Tensor], axes: Sequence[int], shape: Any, epsilon: float
) -> list[tf.Tensor]:
    gradient, x, scale, mean, variance = inputs[:5]
    wide = tf.cast(gradient, tf.float32)
    count = _count(x, axes)
    root = tf.reshape(tf.math.rsqrt(variance + epsilon), shape)
    normal = (tf.cast(x, tf.float32) - tf.reshape(mean, shape)) * root
    of_offset = tf.reduce_sum(wide, axes)
    of_scale = tf.reduce_sum(wide * normal, axes)
    centred = wide - tf.reshape(of_offset / count, shape)
    of_x = (centred - normal * tf.reshape(of_scale / count, shape)) * root
    of_x *= tf.reshape(scale, shape)
    return [tf.cast(of_x, x.dtype), of_scale, of_offset, tf.zeros([0]), tf.zeros([0])]
