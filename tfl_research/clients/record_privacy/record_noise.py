"""Clipping of records' gradients, and the seeded noise of DP-SGD's local steps."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfl_research import stateless_random
from tfl_research.clients.record_privacy import outer_products

# Smaller float32 are subnormal: imprecise, or flushed to zero.
_LEAST_FACTOR = 1.2e-38


def clipped_records(
    gradients: Sequence[tf.Tensor], mask: tf.Tensor, l2_norm_clip: float
) -> list[tf.Tensor]:
    """Scales each record's gradient to an l2 norm of at most the clip.

    The result is g / max(1, ‖g‖ / C) of Abadi et al. 2016 (arXiv 1607.00133, Algorithm
    1), with ‖g‖ over all of a record's tensors. Rounding can add a few parts in 10^7 to
    the norm of the result. A gradient with a NaN or an infinity becomes zero. A
    gradient whose factor is too small for float32 (below about 10^-38) also becomes
    zero.

    Args:
      gradients: float32 or float64 `[records, ...]`, one for each weight.
      mask: bool `[records]`; gradients of records without the mask become zero.
      l2_norm_clip: C.

    Returns:
      Tensors of the shapes of `gradients`.
    """
    factors, _ = _factors(gradients, mask, l2_norm_clip)
    return [_scaled(g, factors) for g in gradients]


def clipped_sum(
    gradients: Sequence[outer_products.Gradient], mask: tf.Tensor, l2_norm_clip: float
) -> list[tf.Tensor]:
    """Sums the records' clipped gradients (see `clipped_records`).

    Args:
      gradients: float32 or float64 `[records, ...]`, or its factors, one for each
        weight.
      mask: bool `[records]`, records that count.
      l2_norm_clip: C.

    Returns:
      Tensors of the weights' shapes.
    """
    factors, exact = _factors(gradients, mask, l2_norm_clip)
    return [
        outer_products.scaled_sum(g, exact)
        if isinstance(g, outer_products.OuterProducts)
        else tf.reduce_sum(_scaled(g, factors), axis=0)
        for g in gradients
    ]


def _factors(
    gradients: Sequence[outer_products.Gradient], mask: tf.Tensor, l2_norm_clip: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes each record's factor, float32 and float64 `[records]`; 0 if ignored."""
    # In float64 no square of a float32 overflows, and the sum of many does not stall.
    squares = tf.zeros_like(mask, tf.float64)
    for g in gradients:
        squares += outer_products.squared_norms(g)
    clip = tf.constant(l2_norm_clip, tf.float64)
    norms = tf.sqrt(squares)
    unit = tf.constant(1.0, tf.float64)
    exact = tf.where(norms <= clip, unit, clip / norms)
    factors = tf.cast(exact, tf.float32)
    kept = mask & tf.math.is_finite(norms) & (factors >= _LEAST_FACTOR)
    return (
        tf.where(kept, factors, tf.zeros_like(factors)),
        tf.where(kept, exact, tf.zeros_like(exact)),
    )


def _scaled(gradient: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    # Zero if the factor is zero, also for gradients with NaN.
    shape = [-1] + [1] * (gradient.shape.rank - 1)
    factors = tf.cast(tf.reshape(factors, shape), gradient.dtype)
    return tf.math.multiply_no_nan(gradient, factors)


def step_noise(
    seed: tf.Tensor, step: tf.Tensor, specs: Sequence[tf.TensorSpec]
) -> list[tf.Tensor]:
    """Draws the standard normal noise of a local step, a pure function of (seed, step).

    The low bits of floating-point Gaussian noise leak information (Mironov 2012). This
    noise is for research, and does not protect a deployment.

    Args:
      seed: int64 `[2]`, secret seed of one client in one round.
      step: int32 `[]`, number of the client's local step in the round.
      specs: specs of the weights, with static shapes.
    """
    # Few draws, since each random operation becomes a loop when clients are vectorised.
    own = stateless_random.fold_in(seed, step)
    return stateless_random.normals([spec.shape for spec in specs], own)
