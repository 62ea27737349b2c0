"""Which clients are malicious in a simulation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tfl_research.data import derived_generator

# The `role` of a malicious client, see `ClientData.with_roles`.
MALICIOUS = 1


def malicious_count(num_clients: int, fraction: float) -> int:
    """How many of the clients are malicious: round(fraction · n), halves upwards.

    Raises:
      ValueError: a fraction outside [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be in [0, 1], got {fraction}")
    # 0.15 · 30 is a little below 4.5 in floating point, and means 4.5.
    return math.floor(fraction * num_clients + 0.5 + 1e-9)


def malicious_clients(
    client_ids: Sequence[str], fraction: float, seed: int
) -> tuple[str, ...]:
    """The malicious clients of a population: a function of its ids and the seed.

    The order of the ids does not matter, and a smaller fraction's clients are among
    those of a larger one.

    Args:
      client_ids: the population.
      fraction: of it, in [0, 1]; see `malicious_count`.
      seed: of the draw.

    Returns:
      Ids, in the population's order.

    Raises:
      ValueError: a fraction outside [0, 1].
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
    """How many malicious clients a random cohort has at most, with a probability.

    Args:
      num_clients: of the population.
      malicious: of them.
      cohort_size: clients in a cohort; on average where they are independent.
      independent: whether each client joins on its own (Poisson sampling), so that the
        number is binomial; it is hypergeometric otherwise.
      probability: of a cohort with at most so many.
    """
    # Takes a second to import, which other settings should not cost.
    from scipy import stats

    if independent:
        share = cohort_size / num_clients
        return int(stats.binom.ppf(probability, malicious, share))
    size = int(cohort_size)
    return int(stats.hypergeom.ppf(probability, num_clients, malicious, size))
