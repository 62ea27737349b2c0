"""Update attacks that leave the honest mean within the honest rows' distances.

Arguments and results are as in `attacks.update_attacks`.
"""

from __future__ import annotations

import tensorflow as tf

from tfl_research.attacks.catalogue import PERTURBATIONS
from tfl_research.attacks.honest_rows import HonestRows, replaced

# This number of bisections reaches the precision of float64.
_BISECTIONS = 60


def _squared_distances(honest: HonestRows) -> tf.Tensor:
    """float64 `[n, n]`, squared distances between honest rows; 0 for other rows."""
    gram = tf.cast(
        tf.matmul(honest.centred, honest.centred, transpose_b=True), tf.float64
    )
    lengths = tf.linalg.diag_part(gram)
    squared = tf.maximum(lengths[:, None] + lengths[None, :] - 2 * gram, 0)
    pairs = honest.present[:, None] & honest.present[None, :]
    return tf.where(pairs, squared, tf.zeros_like(squared))


def _deviation(honest: HonestRows, perturbation: str) -> tf.Tensor:
    """float32 `[d]`, the direction in which the attack leaves the mean."""
    if perturbation == "std":
        return -honest.stddev
    if perturbation == "sign":
        return -tf.sign(honest.mean)
    return tf.math.divide_no_nan(-honest.mean, tf.norm(honest.mean))


def _farthest(
    updates: tf.Tensor,
    malicious: tf.Tensor,
    present: tf.Tensor,
    perturbation: str,
    *,
    of_sums: bool,
) -> tf.Tensor:
    """Malicious rows mean + γ · deviation with the greatest allowed γ.

    The squared distance of such a row from honest row i is a quadratic function of γ.
    So the bisection (the paper's Algorithm 1, which starts at a γ that is too large)
    needs only the coefficients.
    """
    if perturbation not in PERTURBATIONS:
        raise ValueError(
            f"perturbation must be one of {', '.join(PERTURBATIONS)}, got "
            f"{perturbation!r}"
        )
    honest = HonestRows.of(updates, malicious, present)
    deviation = _deviation(honest, perturbation)
    squared = _squared_distances(honest)
    constant = tf.cast(tf.reduce_sum(tf.square(honest.centred), axis=1), tf.float64)
    linear = -2 * tf.cast(tf.linalg.matvec(honest.centred, deviation), tf.float64)
    quadratic = tf.cast(tf.reduce_sum(tf.square(deviation)), tf.float64)
    if of_sums:
        bound = tf.reduce_max(tf.reduce_sum(squared, axis=1))
    else:
        bound = tf.reduce_max(squared)

    def allowed(gamma: tf.Tensor) -> tf.Tensor:
        distances = constant + gamma * linear + gamma * gamma * quadratic
        distances = tf.where(honest.present, distances, tf.zeros_like(distances))
        if of_sums:
            return tf.reduce_sum(distances) <= bound
        return tf.reduce_max(distances) <= bound

    def halve(step: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor) -> tuple:
        middle = (lower + upper) / 2
        fits = allowed(middle)
        return step + 1, tf.where(fits, middle, lower), tf.where(fits, upper, middle)

    # By the triangle inequality no larger γ is allowed.
    upper = 2 * tf.sqrt(tf.math.divide_no_nan(bound, quadratic))
    _, gamma, _ = tf.while_loop(
        lambda step, *_: step < _BISECTIONS,
        halve,
        (tf.constant(0), tf.zeros_like(upper), upper),
    )
    rows = honest.mean + tf.cast(gamma, tf.float32) * deviation
    return replaced(updates, malicious, present, rows, honest)


def min_max(
    updates: tf.Tensor,
    malicious: tf.Tensor,
    present: tf.Tensor,
    seed: tf.Tensor,
    *,
    perturbation: str = "std",
) -> tf.Tensor:
    """Malicious rows leave the honest mean as far as two honest rows are apart.

    Shejwalkar and Houmansadr, NDSS 2021, the Min-Max attack: mean + γ · p. γ is the
    greatest number such that the result's greatest distance from an honest row is at
    most the greatest distance between two honest rows. The seed is not used.

    Args:
      perturbation: p, computed from the honest rows: "unit" (minus the mean divided by
        its norm, the paper's inverse unit vector), "std" (minus the standard
        deviations) or "sign" (minus the signs of the mean).

    Raises:
      ValueError: the perturbation is unknown.
    """
    del seed
    return _farthest(updates, malicious, present, perturbation, of_sums=False)


def min_sum(
    updates: tf.Tensor,
    malicious: tf.Tensor,
    present: tf.Tensor,
    seed: tf.Tensor,
    *,
    perturbation: str = "std",
) -> tf.Tensor:
    """Malicious rows leave the honest mean within an honest row's sum of distances.

    Shejwalkar and Houmansadr, NDSS 2021, the Min-Sum attack; as `min_max`, but the sum
    of squared distances from the honest rows is at most the greatest such sum of an
    honest row.

    Raises:
      ValueError: the perturbation is unknown.
    """
    del seed
    return _farthest(updates, malicious, present, perturbation, of_sums=True)
