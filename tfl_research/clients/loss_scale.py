"""Gradients of models that compute in float16, whose losses are scaled."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfl_research.models.functional_model import FunctionalModel

# Keras' `LossScaleOptimizer` begins with the first, and halves it where that is too
# much. The scale of a local step depends on that step alone.
_SCALES = (2.0**15, 2.0**7, 1.0)


def tape_of(model: FunctionalModel) -> tf.GradientTape:
    """The tape for `gradient`."""
    return tf.GradientTape(persistent=model.scales_loss)


def gradient(
    tape: tf.GradientTape,
    loss: tf.Tensor,
    weights: Sequence[tf.Tensor],
    model: FunctionalModel,
) -> list[tf.Tensor]:
    """The gradient of a loss; zero for weights that it does not depend on.

    In float16, numbers below 6e-8 are zero. So the loss of a model that computes in
    float16 (Keras' policy "mixed_float16") is multiplied by 2^15, and the gradient is
    divided by 2^15. Where the scaled gradient is not finite, the scale is 2^7, or 1.

    Args:
      tape: the tape from `tape_of`, which has recorded the loss.
      loss: float32 `[]`.
      weights: which the tape watches.
      model: that gives the loss.
    """
    scales = _SCALES if model.scales_loss else (1.0,)
    found: list[tf.Tensor] = []
    for scale in reversed(scales):
        scaled = tape.gradient(
            loss,
            weights,
            output_gradients=None if scale == 1 else tf.constant(scale, loss.dtype),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        scaled = [tf.convert_to_tensor(g) for g in scaled]
        if not found:
            found = scaled
            continue
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in scaled])
        divided = [g / tf.cast(scale, g.dtype) for g in scaled]
        found = [tf.where(finite, new, old) for new, old in zip(divided, found)]
    return found
