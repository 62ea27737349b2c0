"""What a run adds to δ because its random numbers have finitely many bits."""

from __future__ import annotations

from tfl_research import privacy
from tfl_research.privacy.accounting import sampler_rest
from tfl_research.sampling import Sampler


def sampler_delta(
    account: privacy.RoundAccount, asked: Sampler, dimension: int
) -> float:
    """See `sampler_rest.sampler_delta`, for the rounds done or else planned.

    Args:
      account: of the run; rounds that were charged twice count twice.
      asked: whom a round asks.
      dimension: scalars in an update.
    """
    rounds = len(account.ledger) or account.planned_rounds
    charged = sum(count for _, count in account.groups(rounds))
    largest = asked.maximum_cohort_size
    if largest != asked.minimum_cohort_size:
        # A random size, of which the largest is exceeded now and then.
        largest = len(asked.client_ids)
    size = sampler_rest.RunSize(dimension, charged, largest)
    draws = account.plan.draws(size)
    return sampler_rest.sampler_delta(draws, account.epsilon_after(rounds))
