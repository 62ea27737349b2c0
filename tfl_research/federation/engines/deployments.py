"""The deployment of each engine, by the engine's name."""

from __future__ import annotations

from collections.abc import Mapping

from tfl_research.federation.engines.deployment import Deployment, Place, Say
from tfl_research.federation.engines.flare_deployment import FlareDeployment
from tfl_research.federation.engines.flower_deployment import FlowerDeployment

_DEPLOYMENTS: Mapping[str, type[Deployment]] = {
    "flare": FlareDeployment,
    "flower": FlowerDeployment,
}


def of(place: Place, say: Say, *, insecure: bool = False) -> Deployment:
    """The deployment of a place's engine; makes a missing environment.

    Raises:
      UserError: the environment cannot be made.
    """
    return _DEPLOYMENTS[place.engine](place, say, insecure=insecure)
