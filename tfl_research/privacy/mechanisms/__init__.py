"""Mechanisms of user-level privacy: what each is, and its TFF aggregator.

The classes here say what a mechanism is, what it is charged as and what it goes with;
`UserLevelPlan.build` makes the aggregators, which clip, sum and noise updates. What
rounds are charged as is in `privacy.accounting.events`.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy

if TYPE_CHECKING:
    from tfl_research.privacy.mechanisms.client_catalogue import (
        DiscreteGaussian as DiscreteGaussian,
        LocalGaussian as LocalGaussian,
        Skellam as Skellam,
    )
    from tfl_research.privacy.mechanisms.correlated_catalogue import (
        BandedMatrix as BandedMatrix,
        Tree as Tree,
    )
    from tfl_research.privacy.mechanisms.server_catalogue import (
        AdaptiveGaussian as AdaptiveGaussian,
        BoundedWeight as BoundedWeight,
        Gaussian as Gaussian,
    )
__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
