"""Corrects results that XLA computes from a dimension's largest size, not its size.

Under XLA, the real examples of a padded batch are a tensor with a size that is known
only when the program runs; XLA knows the size of the whole batch. Sums and means cover
only the real examples. But a batch normalization in training multiplies its variance by
n / (n - 1), as TensorFlow's kernel does, and counts the padding in n.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

_NORMALIZATIONS = frozenset({"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"})
# Positions of inputs and results.
_SCALE, _OLD_VARIANCE = 1, 4
_Y, _VARIANCE, _PLAIN_VARIANCE = 0, 2, 4


def is_concerned(node: Any) -> bool:
    """Whether results of a NodeDef have to be corrected under XLA."""
    return node.op in _NORMALIZATIONS and node.attr["is_training"].b


def corrected(op: tf.Operation) -> Mapping[int, tf.Tensor]:
    """Returns the corrected results of a concerned operation, by position."""
    plain = op.outputs[_PLAIN_VARIANCE]
    size = tf.size(op.outputs[_Y]) // tf.size(op.inputs[_SCALE])
    count = tf.cast(size, plain.dtype)
    variance = plain * count / tf.maximum(count - 1, 1)
    weight = op.get_attr("exponential_avg_factor")
    if weight != 1:
        variance = (1 - weight) * op.inputs[_OLD_VARIANCE] + weight * variance
    return {_VARIANCE: variance}
