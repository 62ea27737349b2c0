"""Update attacks: pure functions that replace the malicious updates of a cohort.

Each function takes float32 updates `[n, d]`, a bool `[n]` mask of the malicious rows, a
bool `[n]` mask of the present rows (other rows are padding), and an int32 seed `[2]`.
The result is the updates with other malicious rows. Honest rows and padding do not
change.

`gaussian`, `sign_flip` and `scaled` use only the row that they replace. The other
attacks use the honest rows, each counted once. Without honest rows they change nothing.
Standard deviations divide by the number of honest rows.
"""

from __future__ import annotations

from typing import Optional

import tensorflow as tf

from tfl_research import stateless_random
from tfl_research.attacks.distance_attacks import min_max, min_sum
from tfl_research.attacks.honest_rows import HonestRows, replaced
from tfl_research.runtime.graphs.constants import argument

__all__ = [
    "alie",
    "alie_deviations",
    "gaussian",
    "inner_product",
    "mimic",
    "min_max",
    "min_sum",
    "scaled",
    "sign_flip",
]

_POWER_ITERATIONS = 20


def gaussian(
    updates: tf.Tensor,
    malicious: tf.Tensor,
    present: tf.Tensor,
    seed: tf.Tensor,
    *,
    scale: float = 1.0,
) -> tf.Tensor:
    """Malicious rows are noise: N(0, scale²) in every entry.

    Blanchard et al. 2017 (arXiv 1703.02757), whose experiments take a standard
    deviation of 200. The noise of different rows is independent.
    """
    noise = argument(scale) * stateless_random.normal(tf.shape(updates), seed)
    return replaced(updates, malicious, present, noise)


def sign_flip(
    updates: tf.Tensor,
    malicious: tf.Tensor,
    present: tf.Tensor,
    seed: tf.Tensor,
    *,
    scale: float = 4.0,
) -> tf.Tensor:
    """Malicious rows are -scale times the honest update of the client.

    Li et al. 2019 (arXiv 1811.03761), sign-flipping attacks; with a scale of 1 the bit
    flipping of Karimireddy et al. 2020 (arXiv 2006.09365). The seed is not used.
    """
    del seed
    return replaced(updates, malicious, present, argument(-scale) * updates)


def scaled(
    updates: tf.Tensor,
    malicious: tf.Tensor,
    present: tf.Tensor,
    seed: tf.Tensor,
    *,
    scale: float = 10.0,
) -> tf.Tensor:
    """Malicious rows are scale times the honest update of the client.

    Bagdasaryan et al. 2018 (arXiv 1807.00459), equation 3: with a scale of n over the
    number of attackers, a mean of n rows is about the attackers' model. The seed is
    not used.
    """
    del seed
    return replaced(updates, malicious, present, argument(scale) * updates)


def alie_deviations(count: tf.Tensor, byzantine: tf.Tensor) -> tf.Tensor:
    """Computes z_max of "a little is enough": float64 scalar, at least 0.

    Baruch et al. 2019 (arXiv 1902.06156), section 3: with n clients, f of them
    malicious, s = ⌊n/2 + 1⌋ - f honest clients are needed for a majority, and z_max is
    the greatest z with Φ(z) < (n - f - s) / (n - f). If f is a majority, s is 1. If the
    quantile is negative, z is 0.

    Args:
      count: int32 scalar, n.
      byzantine: int32 scalar, f.
    """
    honest = count - byzantine
    needed = tf.maximum(count // 2 + 1 - byzantine, 1)
    share = tf.cast(honest - needed, tf.float64)
    share /= tf.cast(tf.maximum(honest, 1), tf.float64)
    return tf.math.ndtri(tf.clip_by_value(share, tf.constant(0.5, tf.float64), 1.0))


def alie(
    updates: tf.Tensor,
    malicious: tf.Tensor,
    present: tf.Tensor,
    seed: tf.Tensor,
    *,
    scale: Optional[float] = None,
) -> tf.Tensor:
    """Malicious rows are mean - z · std of the honest rows ("a little is enough").

    Baruch et al. 2019 (arXiv 1902.06156), the attack that prevents convergence. The
    seed is not used.

    Args:
      scale: z; by default z_max of the cohort, see `alie_deviations`.
    """
    del seed
    honest = HonestRows.of(updates, malicious, present)
    if scale is None:
        number = tf.reduce_sum(tf.cast(present, tf.int32))
        byzantine = tf.reduce_sum(tf.cast(malicious & present, tf.int32))
        deviations = tf.cast(alie_deviations(number, byzantine), tf.float32)
    else:
        deviations = argument(scale)
    rows = honest.mean - deviations * honest.stddev
    return replaced(updates, malicious, present, rows, honest)


def inner_product(
    updates: tf.Tensor,
    malicious: tf.Tensor,
    present: tf.Tensor,
    seed: tf.Tensor,
    *,
    scale: float = 0.5,
) -> tf.Tensor:
    """Malicious rows are -scale times the honest mean (inner-product manipulation).

    Xie et al. 2019 (arXiv 1903.03936), where scale is the paper's ε. A large scale
    reverses a mean. A small scale hides among honest updates with a large variance. The
    seed is not used.
    """
    del seed
    honest = HonestRows.of(updates, malicious, present)
    return replaced(updates, malicious, present, argument(-scale) * honest.mean, honest)


def mimic(
    updates: tf.Tensor, malicious: tf.Tensor, present: tf.Tensor, seed: tf.Tensor
) -> tf.Tensor:
    """Malicious rows are copies of the honest row that stands out most.

    Karimireddy et al. 2020 (arXiv 2006.09365), mimic: the row with the greatest
    |<z, x>|, where z is the direction of the honest rows' greatest variance. The paper
    tracks z over the first rounds by Oja's rule and then copies one client. Here this
    client need not be in a later cohort. So z is computed from each round's rows, by
    power iteration from a start that is drawn with the seed.
    """
    honest = HonestRows.of(updates, malicious, present)

    def step(number: tf.Tensor, direction: tf.Tensor) -> tuple:
        along = tf.linalg.matvec(honest.centred, direction)
        direction = tf.linalg.matvec(honest.centred, along, transpose_a=True)
        return number + 1, tf.math.divide_no_nan(direction, tf.norm(direction))

    start = stateless_random.normal(tf.shape(updates)[1:], seed)
    _, direction = tf.while_loop(
        lambda number, _: number < _POWER_ITERATIONS,
        step,
        (tf.constant(0), tf.math.divide_no_nan(start, tf.norm(start))),
    )
    own = tf.where(honest.present[:, None], updates, tf.zeros_like(updates))
    own = own / honest.scale
    extent = tf.abs(tf.linalg.matvec(own, direction))
    extent = tf.where(honest.present, extent, -tf.ones_like(extent))
    return replaced(
        updates, malicious, present, tf.gather(own, tf.argmax(extent)), honest
    )
