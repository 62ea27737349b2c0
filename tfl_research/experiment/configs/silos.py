"""Settings of silos that can be down."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfl_research import settings
from tfl_research.devices.silos import UnreliableSilos
from tfl_research.sampling import Sampler
from tfl_research.settings import Settings


@dataclasses.dataclass(frozen=True)
class Silos(Settings):
    """The probability that a silo is down, and how many silos must report.

    Example:
      >>> silos = tfl.Silos(silo_drop_out=0.2, minimum_clients=3)
      >>> experiment = tfl.Experiment("heart", cohorts=tfl.Cohorts("full"), silos=silos)
      >>> experiment.check()
    """

    TITLE: ClassVar[str] = "Silos"

    silo_drop_out: float = settings.real(
        0.0, "Probability that a client does not report in a round.", minimum=0, below=1
    )
    minimum_clients: int = settings.integer(
        1,
        "Number of reports that a round needs. With fewer reports the round is "
        "abandoned, and the model stays as it is.",
        minimum=1,
    )

    def sampler(self, inner: Sampler, seed: int) -> Sampler:
        """Returns a sampler that leaves out silos that are down.

        Raises:
          SettingError: no cohort reaches the minimum.
        """
        if not self.silo_drop_out and self.minimum_clients == 1:
            return inner
        try:
            return UnreliableSilos(
                inner, self.silo_drop_out, self.minimum_clients, seed
            )
        except ValueError as error:
            raise self.refused("minimum_clients", str(error)) from error
