"""Finds the logits from which outputs of softmax and sigmoid were computed.

Keras' losses of probabilities use the logits of such outputs if they can find them,
because the logarithm of a saturated probability has no gradient. So this module keeps
the logits of a model's outputs, and gives them to a loss or a metric that is traced
separately.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import tensorflow as tf

_ACTIVATIONS = {"Softmax": tf.nn.softmax, "Sigmoid": tf.nn.sigmoid}
_ATTRIBUTE = "_tfl_head"


class Head(NamedTuple):
    """The last operation of a model's output.

    Attributes:
      kind: "Softmax" or "Sigmoid".
      is_marked: whether Keras' activation made the output. If so, every Keras loss
        takes the logits. Otherwise, only a loss of classes takes the logits of softmax,
        and only a binary loss takes those of sigmoid.
      logits: the logits, in the output's shape.
    """

    kind: str
    is_marked: bool
    logits: tf.Tensor

    def output(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns the output of these logits; Keras and `of` recognise this output."""
        output = _ACTIVATIONS[self.kind](logits)
        if self.is_marked:
            output._keras_logits = logits
        setattr(output, _ATTRIBUTE, self._replace(logits=logits))
        return output


def traced(output: tf.Tensor) -> Optional[Head]:
    """Returns an output's head from the graph that computes it; None if no head."""
    operation = output.op
    if operation.type not in _ACTIVATIONS or output.dtype.size < 4:
        return None
    return Head(operation.type, hasattr(output, "_keras_logits"), operation.inputs[0])


def of(output: Any) -> Optional[Head]:
    """Returns the head of a functional model's output; None for other tensors."""
    head = vars(output).get(_ATTRIBUTE) if hasattr(output, "__dict__") else None
    return head if isinstance(head, Head) else None
