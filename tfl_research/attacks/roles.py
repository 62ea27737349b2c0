"""Draws the clients that are malicious in a simulation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tfl_research.data import derived_generator

# The `role` of a malicious client, see `ClientData.with_roles`.
MALICIOUS = 1


def malicious_count(num_clients: int, fraction: float) -> int:
    """Returns the number of malicious clients: round(fraction · n), halves rounded up.

    Raises:
      ValueError: the fraction is outside [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be in [0, 1], got {fraction}")
    # In floating point, 0.15 · 30 is slightly below 4.5.
    return math.floor(fraction * num_clients + 0.5 + 1e-9)


def malicious_clients(
    client_ids: Sequence[str], fraction: float, seed: int
) -> tuple[str, ...]:
    """Draws a population's malicious clients, as a function of its ids and the seed.

    The order of the ids does not matter. The malicious clients of a smaller fraction
    are malicious under a larger fraction too.

    Args:
      client_ids: the population.
      fraction: malicious fraction, in [0, 1]; see `malicious_count`.
      seed: seed of the draw.

    Returns:
      Ids of the malicious clients, in the population's order.

    Raises:
      ValueError: the fraction is outside [0, 1].
    """
    count = malicious_count(len(client_ids), fraction)
    order = derived_generator("malicious", seed).permutation(len(client_ids))
    ranked = sorted(client_ids)
    chosen = {ranked[index] for index in order[:count]}
    return tuple(client_id for client_id in client_ids if client_id in chosen)


def malicious_in_cohort(
    num_clients: int,
    malicious: int,
    cohort_size: float,
    *,
    independent: bool,
    probability: float = 0.99,
) -> int:
    """Computes a number of malicious clients that a random cohort rarely exceeds.

    Args:
      num_clients: number of clients in the population.
      malicious: number of malicious clients in the population.
      cohort_size: clients in a cohort; the expected number if `independent`.
      independent: whether each client joins independently (Poisson sampling), so that
        the number of malicious clients is binomial; otherwise it is hypergeometric.
      probability: probability of a cohort with at most the returned number.
    """
    # The import takes a second, which other settings do not need.
    from scipy import stats

    if independent:
        share = cohort_size / num_clients
        return int(stats.binom.ppf(probability, malicious, share))
    size = int(cohort_size)
    return int(stats.hypergeom.ppf(probability, num_clients, malicious, size))
