"""Computes gradients of models that compute in float16, with scaled losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import tensorflow as tf

from tfl_research.clients.vectors import all_finite
from tfl_research.models.functional_model import FunctionalModel

# Keras' `LossScaleOptimizer` begins with the first scale, and halves it if gradients
# overflow. Here the scale of a local step depends only on this step.
_SCALES = (2.0**15, 2.0**7, 1.0)


def tape_of(model: FunctionalModel) -> tf.GradientTape:
    """Makes the tape for `gradient`."""
    return tf.GradientTape(persistent=model.scales_loss)


def gradient(
    tape: tf.GradientTape,
    terms: Sequence[tuple[tf.Tensor, Optional[tf.Tensor]]],
    weights: Sequence[tf.Tensor],
    model: FunctionalModel,
) -> list[tf.Tensor]:
    """Computes the gradient of a sum of losses; zero for weights without effect.

    In float16, numbers below 6e-8 are zero. So the loss of a model that computes in
    float16 (Keras' policy "mixed_float16") is multiplied by 2^15, and the gradient is
    divided by 2^15. If the scaled gradient is not finite, the scale is 2^7, then 1.

    Args:
      tape: the tape from `tape_of`, which has recorded the losses.
      terms: losses, float32 `[]`, each with a divisor, float32 `[]`; None for 1. The
        tape does not record the division, so that the divisor gets no gradient.
      weights: the weights, which the tape watches.
      model: the model that gives the loss.
    """
    losses = [loss for loss, _ in terms]
    scales = _SCALES if model.scales_loss else (1.0,)
    found: list[tf.Tensor] = []
    for scale in reversed(scales):
        scaled = tape.gradient(
            losses,
            weights,
            output_gradients=[_output_gradient(scale, divisor) for _, divisor in terms],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        scaled = [tf.convert_to_tensor(g) for g in scaled]
        if not found:
            found = scaled
            continue
        finite = all_finite(scaled)
        divided = [g / tf.cast(scale, g.dtype) for g in scaled]
        found = [tf.where(finite, new, old) for new, old in zip(divided, found)]
    return found


def _output_gradient(scale: float, divisor: Optional[tf.Tensor]) -> tf.Tensor:
    """The derivative of scale · loss / divisor by the loss."""
    return tf.constant(scale) if divisor is None else scale / divisor
