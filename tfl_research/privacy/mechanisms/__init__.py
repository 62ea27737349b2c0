"""Mechanisms of user-level privacy: settings, and the aggregators that they build.

The classes exported here are the settings, which `catalogue` has. Each class has its
parameters, its papers, its event, and the samplers and weights that fit. The other
modules build TFF aggregators, which clip updates, sum them, and add noise.
`privacy.accounting.events` has the events.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy

if TYPE_CHECKING:
    from tfl_research.privacy.mechanisms.catalogue.client_catalogue import (
        DiscreteGaussian as DiscreteGaussian,
        LocalGaussian as LocalGaussian,
        Skellam as Skellam,
    )
    from tfl_research.privacy.mechanisms.catalogue.correlated_catalogue import (
        BandedMatrix as BandedMatrix,
        Tree as Tree,
    )
    from tfl_research.privacy.mechanisms.catalogue.server_catalogue import (
        AdaptiveGaussian as AdaptiveGaussian,
        BoundedWeight as BoundedWeight,
        Gaussian as Gaussian,
    )
else:
    __getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
