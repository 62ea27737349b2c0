"""Flags of silos that can be down."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfl_research.devices.silos import UnreliableSilos
from tfl_research.flags import declare
from tfl_research.flags.declare import FlagGroup
from tfl_research.sampling import Sampler


@dataclasses.dataclass(frozen=True)
class SiloFlags(FlagGroup):
    """Which silos report, and how many have to."""

    TITLE: ClassVar[str] = "Silos"

    silo_drop_out: float = declare.real(
        0.0, "Probability that a client does not report in a round.", minimum=0, below=1
    )
    minimum_clients: int = declare.integer(
        1,
        "Reports that a round needs; with fewer it is abandoned, and the model stays.",
        minimum=1,
    )

    def sampler(self, inner: Sampler, seed: int) -> Sampler:
        """The sampler's cohorts without those that are down.

        Raises:
          FlagError: a minimum that no cohort reaches.
        """
        if not self.silo_drop_out and self.minimum_clients == 1:
            return inner
        try:
            return UnreliableSilos(
                inner, self.silo_drop_out, self.minimum_clients, seed
            )
        except ValueError as error:
            raise self.refused("minimum_clients", str(error)) from error
