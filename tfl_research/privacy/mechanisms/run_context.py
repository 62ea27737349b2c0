"""What a run tells its mechanism: for the event, and for the aggregator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Optional, Union

from tfl_research.sampling import Amplification

if TYPE_CHECKING:
    import tensorflow_federated as tff

# A function of no arguments, since TensorFlow is needed to know the model's size.
Dimension = Callable[[], int]


@dataclasses.dataclass(frozen=True)
class RunShape:
    """What a mechanism must know of a run to say what its rounds cost.

    Attributes:
      amplification: of the run's sampler.
      rounds: planned, at least 1.
      expected_cohort_size: the denominator of the mean.
      dimension: gives the number of scalars in an update; asked by mechanisms whose
        noise depends on it.
    """

    amplification: Amplification
    rounds: int
    expected_cohort_size: float
    dimension: Dimension


@dataclasses.dataclass(frozen=True)
class MechanismContext:
    """What a run gives a mechanism to build its aggregator, beside the plan.

    Attributes:
      noise_seed: secret; noise is a function of it and of the round.
      server_momentum: of the server optimizer.
      learning_rates: of the server optimizer by round; None if they are constant.
      linear_server: whether the server's model is a linear function of the means, as
        with SGD and momentum; correlated noise is optimised for that.
      rule: another aggregation in place of the mean, for mechanisms that noise at the
        clients, to which it is post-processing; None for the mean.
      secure: whether a secure sum is part of the computation; False for TFF's own
        runtime, which cannot take one of 64-bit integers modulo a number.
    """

    noise_seed: int
    server_momentum: float = 0.0
    learning_rates: Optional[tuple[float, ...]] = None
    linear_server: bool = True
    rule: Union[
        tff.aggregators.WeightedAggregationFactory,
        tff.aggregators.UnweightedAggregationFactory,
        None,
    ] = None
    secure: bool = True
