"""The outcome of a round for its selected devices."""

from __future__ import annotations

import collections
import dataclasses
from typing import Optional

import numpy as np

from tfl_research.data import Cohort


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome of a simulated round, or of a server step of buffered aggregation.

    Attributes:
      client_ids: clients whose updates are aggregated; empty for an abandoned round.
      end_seconds: the simulated clock at the end of the round.
      selected: number of devices that were selected to train.
      dropped_out: number of devices that stopped without a report.
      late: number of devices whose report came too late.
      bytes_down, bytes_up: bytes to and from all devices in the round. Bytes that
        devices send after the end of a synchronous round do not count.
      abandoned: whether fewer clients than the minimum cohort reported.
      max_steps: largest number of local steps of each client, if some clients stop
        early; otherwise None.
      staleness: int32 `[clients]`, number of server steps since the client began; None
        if all clients began from the current model.
    """

    client_ids: tuple[str, ...]
    end_seconds: float
    selected: int
    dropped_out: int
    late: int
    bytes_down: int
    bytes_up: int
    abandoned: bool = False
    max_steps: Optional[tuple[int, ...]] = None
    staleness: Optional[np.ndarray] = None

    def prepared(self, cohort: Cohort) -> Cohort:
        """Applies `max_steps` and `staleness` to the cohort of `client_ids`."""
        if self.max_steps is not None:
            cohort = cohort.truncated(self.max_steps)
        if self.staleness is not None:
            cohort = cohort.with_members(staleness=self.staleness)
        return cohort

    def columns(self) -> collections.OrderedDict[str, float]:
        """Returns the outcome's cells of metrics.csv."""
        cells: collections.OrderedDict[str, float] = collections.OrderedDict(
            simulated_seconds=float(self.end_seconds),
            bytes_down=int(self.bytes_down),
            bytes_up=int(self.bytes_up),
            selected=int(self.selected),
            dropped_out=int(self.dropped_out),
            late=int(self.late),
            abandoned=int(self.abandoned),
        )
        if self.staleness is not None and len(self.staleness):
            cells["mean_staleness"] = float(np.mean(self.staleness))
        return cells
