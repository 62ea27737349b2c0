"""Outputs of softmax and sigmoid, and the logits from which they were computed.

Keras' losses of probabilities take the logits of such outputs where they can find them,
because the logarithm of a saturated probability has no gradient. So a model's outputs
keep their logits here, and a loss or a metric that is traced apart gets them back.
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
      is_marked: whether Keras' activation made the output. Then every loss of Keras
        takes the logits; or else a loss of classes those of softmax, and a binary loss
        those of sigmoid.
      logits: the logits, in the output's shape.
    """

    kind: str
    is_marked: bool
    logits: tf.Tensor

    def output(self, logits: tf.Tensor) -> tf.Tensor:
        """The output of these logits, which Keras and `of` know as such."""
        output = _ACTIVATIONS[self.kind](logits)
        if self.is_marked:
            output._keras_logits = logits
        setattr(output, _ATTRIBUTE, self._replace(logits=logits))
        return output


def traced(output: tf.Tensor) -> Optional[Head]:
    """The head of an output in the graph that computes it; None for other outputs."""
    operation = output.op
    if operation.type not in _ACTIVATIONS or output.dtype.size < 4:
        return None
    return Head(operation.type, hasattr(output, "_keras_logits"), operation.inputs[0])


def of(output: Any) -> Optional[Head]:
    """The head of an output of a functional model; None for other tensors."""
    head = vars(output).get(_ATTRIBUTE) if hasattr(output, "__dict__") else None
    return head if isinstance(head, Head) else None
