"""Computes the addition to δ because random numbers have finitely many bits."""

from __future__ import annotations

from tfl_research import privacy
from tfl_research.privacy.accounting import sampler_rest
from tfl_research.sampling import Sampler


def sampler_delta(
    account: privacy.RoundAccount, asked: Sampler, dimension: int
) -> float:
    """Computes the addition to δ because of the finite bits of random numbers.

    `sampler_rest.sampler_delta` has the formula. The rounds in the ledger count, or the
    planned rounds if the ledger is empty.

    Args:
      account: the run's account. Rounds that were charged twice count twice.
      asked: the sampler that chooses the clients of a round.
      dimension: number of scalars in an update.
    """
    rounds = len(account.ledger) or account.planned_rounds
    charged = sum(count for _, count in account.groups(rounds))
    largest = asked.maximum_cohort_size
    if largest != asked.minimum_cohort_size:
        # The size is random, and can exceed `maximum_cohort_size` with low probability.
        largest = len(asked.client_ids)
    size = sampler_rest.RunSize(dimension, charged, largest)
    draws = account.plan.draws(size)
    return sampler_rest.sampler_delta(draws, account.epsilon_after(rounds))
