"""The registry of mechanisms of user-level differential privacy, without TensorFlow."""

from __future__ import annotations

from typing import TypeVar

from tfl_research.privacy.mechanisms.catalogue.client_catalogue import (
    DiscreteGaussian,
    LocalGaussian,
    Skellam,
)
from tfl_research.privacy.mechanisms.catalogue.correlated_catalogue import (
    BandedMatrix,
    Tree,
)
from tfl_research.privacy.mechanisms.catalogue.server_catalogue import (
    AdaptiveGaussian,
    BoundedWeight,
    Gaussian,
)
from tfl_research.privacy.mechanisms.catalogue.specification import (
    MechanismRegistry,
    MechanismSettings,
)

MECHANISMS = MechanismRegistry("mechanism")
MechanismClass = TypeVar("MechanismClass", bound=type[MechanismSettings])


def register_mechanism(mechanism_class: MechanismClass) -> MechanismClass:
    """Registers a mechanism by its NAME, as a decorator; see `MechanismSettings`.

    Raises:
      ValueError: the name is taken or missing, or a class attribute is wrong.

    Example:
      >>> import dataclasses
      >>> from tfl_research.privacy import mechanisms
      >>> @tfl.privacy.register_mechanism
      ... @dataclasses.dataclass(frozen=True)
      ... class PoissonGaussian(mechanisms.Gaussian):
      ...     NAME = "poisson_gaussian"
      ...     SUMMARY = "Gaussian noise, for Poisson sampling only"
      ...     SAMPLERS = ("poisson",)
      >>> privacy = tfl.UserLevelPrivacy("poisson_gaussian", noise_multiplier=1)
      >>> tfl.Experiment("mnist", privacy=privacy).check()
    """
    MECHANISMS.add(mechanism_class)
    return mechanism_class


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
