"""Clipping of records' gradients, and the seeded noise of DP-SGD's local steps."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfl_research import stateless_random

# Smaller float32 are subnormal: imprecise, or flushed to zero.
_LEAST_FACTOR = 1.2e-38


def clipped_records(
    gradients: Sequence[tf.Tensor], mask: tf.Tensor, l2_norm_clip: float
) -> list[tf.Tensor]:
    """Scales each record's gradient to an l2 norm of at most the clip.

    g / max(1, ‖g‖ / C) of Abadi et al. 2016 (arXiv 1607.00133, Algorithm 1), ‖g‖
    over all of a record's tensors. Rounding can add a few parts in 10^7 to the norm of
    the result. A gradient with a NaN or an infinity becomes zero. So does a gradient
    whose factor is too small for float32 (below about 10^-38).

    Args:
      gradients: float32 `[records, ...]`, one for each weight.
      mask: bool `[records]`; gradients of records without the mask become zero.
      l2_norm_clip: C.

    Returns:
      Tensors of the shapes of `gradients`.
    """
    # In float64 no square of a float32 overflows, and the sum of many does not stall.
    squares = tf.zeros_like(mask, tf.float64)
    for g in gradients:
        axes = list(range(1, g.shape.rank))
        squares += tf.reduce_sum(tf.square(tf.cast(g, tf.float64)), axis=axes)
    clip = tf.constant(l2_norm_clip, tf.float64)
    norms = tf.sqrt(squares)
    unit = tf.constant(1.0, tf.float64)
    factors = tf.cast(tf.where(norms <= clip, unit, clip / norms), tf.float32)
    kept = mask & tf.math.is_finite(norms) & (factors >= _LEAST_FACTOR)
    factors = tf.where(kept, factors, tf.zeros_like(factors))
    return [
        # Zero if the factor is zero, also for gradients with NaN.
        tf.math.multiply_no_nan(g, tf.reshape(factors, [-1] + [1] * (g.shape.rank - 1)))
        for g in gradients
    ]


def step_noise(
    seed: tf.Tensor, step: tf.Tensor, specs: Sequence[tf.TensorSpec]
) -> list[tf.Tensor]:
    """Standard normal noise of a local step, a pure function of (seed, step).

    The low bits of floating-point Gaussian noise leak information (Mironov 2012). This
    noise is for research, and does not protect a deployment.

    Args:
      seed: int64 `[2]`, secret seed of one client in one round.
      step: int32 `[]`, number of the client's local step in the round.
      specs: specs of the weights, with static shapes.
    """
    sizes = [int(spec.shape.num_elements()) for spec in specs]
    # One draw for all weights, since each random operation becomes a loop when clients
    # are vectorised.
    flat = stateless_random.normal([sum(sizes)], stateless_random.fold_in(seed, step))
    return [
        tf.reshape(part, spec.shape) for part, spec in zip(tf.split(flat, sizes), specs)
    ]
