"""Values of a run from which a mechanism makes its event and its aggregator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Optional, Union

from tfl_research.aggregators import SumFormats
from tfl_research.sampling import Amplification

if TYPE_CHECKING:
    import tensorflow_federated as tff

# A function without arguments, since computing the model's size needs TensorFlow.
Dimension = Callable[[], int]


@dataclasses.dataclass(frozen=True)
class RunShape:
    """The numbers of a run on which the event of its mechanism depends.

    Attributes:
      amplification: the amplification of the run's sampler.
      rounds: planned, at least 1.
      expected_cohort_size: the denominator of the mean.
      dimension: returns the number of scalars in an update; called only if the
        mechanism's noise depends on this number.
    """

    amplification: Amplification
    rounds: int
    expected_cohort_size: float
    dimension: Dimension


@dataclasses.dataclass(frozen=True)
class MechanismContext:
    """The facts, in addition to the plan, from which a mechanism builds its aggregator.

    Attributes:
      noise_seed: secret; the noise is a function of this seed and of the round.
      server_momentum: the momentum of the server optimizer.
      learning_rates: the learning rates of the server optimizer by round; None if they
        are constant.
      linear_server: whether the server's model is a linear function of the means, as
        with SGD and momentum; correlated noise is optimised for linear servers.
      rule: an aggregation of noised updates instead of the mean; only for mechanisms
        that noise at the clients, for which a rule is post-processing. None for the
        mean.
      secure: whether the computation has a secure sum; False for TFF's own runtime,
        which cannot execute a secure sum of 64-bit integers modulo a number.
      secure_sums: the fixed-point formats of secure sums if everything that clients
        report must go through secure sums; None otherwise. `secure` only refers to the
        integers of a mechanism that needs a secure sum.
      client_secrets: whether noise that clients add is drawn from the member
        `client_secret` of a client's value (`data.client_secrets`) instead of `seed`.
        The server does not know this secret.
    """

    noise_seed: int = dataclasses.field(repr=False)
    server_momentum: float = 0.0
    learning_rates: Optional[tuple[float, ...]] = None
    linear_server: bool = True
    rule: Union[
        tff.aggregators.WeightedAggregationFactory,
        tff.aggregators.UnweightedAggregationFactory,
        None,
    ] = None
    secure: bool = True
    secure_sums: Optional[SumFormats] = None
    client_secrets: bool = False
