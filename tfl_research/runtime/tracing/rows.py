"""Takes parts of tensors at computed positions in a form that XLA executes fast.

If a graph does not know the sizes of `x`, XLA's form of `x[i]` doubles every axis that
is taken as a whole. For a chunk of 50 clients with 100 images of 784 pixels each, that
form writes 125 MB. XLA's gather reads only the wanted part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import tensorflow as tf

from tfl_research.runtime.graphs.limits_of_xla import guards
from tfl_research.runtime.tracing.xla_forms import Formed

# Types of a gather's positions. A strided slice may have others.
_POSITIONS = (tf.int32, tf.int64)


def may_be_indexed(node: Any) -> bool:
    """Whether a NodeDef selects single positions of some axes, and whole other axes."""
    return (
        node.op == "StridedSlice"
        and node.attr["shrink_axis_mask"].i != 0
        and not node.attr["ellipsis_mask"].i
        and not node.attr["new_axis_mask"].i
    )


def indexed(node: Any, inputs: Sequence[tf.Tensor]) -> Optional[Formed]:
    """Computes a node for which `may_be_indexed` is true, by a gather.

    Args:
      node: a NodeDef.
      inputs: the values of the node's inputs.

    Returns:
      The node's value. None if the positions are constants or of another type than
      int32 and int64, if the node takes a part of an axis, or if the number of axes is
      not known.
    """
    x, begin, _, strides = inputs
    if x.shape.rank is None or not begin.shape.is_fully_defined():
        return None
    if tf.get_static_value(begin) is not None or begin.dtype not in _POSITIONS:
        return None
    shrink = _bits(node, "shrink_axis_mask")
    from_begin, to_end = _bits(node, "begin_mask"), _bits(node, "end_mask")
    step = tf.get_static_value(strides)
    result, violated = x, tf.constant(False)
    # The last axis comes first, so that the numbers of earlier axes do not change.
    for axis in reversed(range(begin.shape[0])):
        if axis in shrink:
            if axis in from_begin:
                return None
            position = begin[axis]
            size = tf.shape(x, out_type=begin.dtype)[axis]
            position = tf.where(position < 0, position + size, position)
            violated |= guards.gathered(x, position, axis)
            result = tf.gather(result, position, axis=axis)
        elif axis not in from_begin & to_end or step is None or step[axis] != 1:
            return None
    return Formed([result], violated)


def _bits(node: Any, name: str) -> frozenset[int]:
    """Returns the axes of a mask."""
    mask = node.attr[name].i
    return frozenset(axis for axis in range(mask.bit_length()) if (mask >> axis) & 1)
