"""The registry of mechanisms of user-level differential privacy, without TensorFlow."""

from __future__ import annotations

from typing import TypeVar

from tfl_research import sampling
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
    NOISED_AT,
    MechanismSettings,
)
from tfl_research.registry import SettingsRegistry

# The names that class attributes of a mechanism may have.
_KNOWN = {"SAMPLERS": sampling.NAMES, "WEIGHTINGS": ("uniform", "capped", "examples")}


class MechanismRegistry(SettingsRegistry[MechanismSettings]):
    """Maps names to mechanisms."""

    def add(self, chosen: type[MechanismSettings]) -> type[MechanismSettings]:
        """Adds a mechanism, under its NAME, and returns it.

        Raises:
          ValueError: the name is taken or missing, or a class attribute is wrong.
        """
        if chosen.NOISED_AT not in NOISED_AT:
            raise ValueError(
                f"NOISED_AT of {chosen.__name__} must be one of {NOISED_AT}, got "
                f"{chosen.NOISED_AT!r}"
            )
        for name in ("SAMPLERS", "WEIGHTINGS"):
            if isinstance(getattr(chosen, name), str):
                raise ValueError(
                    f"{name} of {chosen.__name__} must be a tuple of names, got "
                    f"{getattr(chosen, name)!r}; write a comma behind the name"
                )
            unknown = [n for n in getattr(chosen, name) if n not in _KNOWN[name]]
            if unknown:
                raise ValueError(
                    f"{name} of {chosen.__name__} has {unknown[0]!r}; expected names "
                    f"of {', '.join(_KNOWN[name])}"
                )
        if not chosen.SAMPLERS:
            raise ValueError(
                f"{chosen.__name__} must name the SAMPLERS that it covers, got none"
            )
        if "examples" in chosen.WEIGHTINGS or not chosen.WEIGHTINGS:
            raise ValueError(
                f"WEIGHTINGS of {chosen.__name__} must be of 'uniform' and 'capped', "
                f"got {chosen.WEIGHTINGS}: example counts have no bound"
            )
        return super().add(chosen)


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
