"""What became of the devices that a round selected."""

from __future__ import annotations

import collections
import dataclasses
from typing import Optional

import numpy as np

from tfl_research.data import Cohort


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One simulated round, or one server step of buffered aggregation.

    Attributes:
      client_ids: whose updates are aggregated; empty where the round is abandoned.
      end_seconds: the simulated clock when it ends.
      selected: devices that were told to train.
      dropped_out: that stopped without a report.
      late: that did not drop out, but whose report was not taken any more.
      bytes_down, bytes_up: of all devices together, in this round; what devices of a
        synchronous round send after its end is not counted.
      abandoned: whether fewer than the minimum cohort reported.
      max_steps: local steps by client, where some were cut short; else None.
      staleness: int32 `[clients]`, server steps since each began; None where all
        began from the current model.
      private_columns: of metrics.csv, those that tell of clients' data, where the
        rest of the round tells nothing.
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
    private_columns: tuple[str, ...] = ()

    def prepared(self, cohort: Cohort) -> Cohort:
        """The cohort of `client_ids`, cut short and told its staleness."""
        if self.max_steps is not None:
            cohort = cohort.truncated(self.max_steps)
        if self.staleness is not None:
            cohort = cohort.with_members(staleness=self.staleness)
        return cohort

    def columns(self) -> collections.OrderedDict[str, float]:
        """Cells of metrics.csv."""
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
