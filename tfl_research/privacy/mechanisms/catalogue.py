"""Every mechanism of user-level differential privacy, by name; no TensorFlow."""

from __future__ import annotations

from tfl_research.privacy.mechanisms.client_catalogue import (
    DiscreteGaussian,
    LocalGaussian,
    Skellam,
)
from tfl_research.privacy.mechanisms.correlated_catalogue import BandedMatrix, Tree
from tfl_research.privacy.mechanisms.server_catalogue import (
    AdaptiveGaussian,
    BoundedWeight,
    Gaussian,
)
from tfl_research.privacy.mechanisms.specification import MechanismRegistry

MECHANISMS = MechanismRegistry("mechanism")
# A decorator, see `MechanismSettings`.
register_mechanism = MECHANISMS.add

for _mechanism in (
    Gaussian,
    AdaptiveGaussian,
    BoundedWeight,
    Tree,
    BandedMatrix,
    DiscreteGaussian,
    Skellam,
    LocalGaussian,
):
    register_mechanism(_mechanism)
