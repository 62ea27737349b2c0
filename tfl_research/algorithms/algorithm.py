"""What an algorithm is: client work and server work that belong together."""

from __future__ import annotations

import dataclasses
from typing import Optional

from tfl_research import clients, processes
from tfl_research.processes.round import Aggregator
from tfl_research.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """A federated algorithm, independent of task and aggregator.

    Attributes:
      client_work: what a client computes.
      server_work: what the server makes of the cohort's mean.
      weighting: how much a client counts, where the paper's argument needs one
        weighting; None leaves the choice open.
      exchanges: rounds of the process that one round of the paper takes, all with the
        same cohort (see `sampling.Repeated`).
    """

    client_work: clients.ClientWork
    server_work: processes.ServerWork
    weighting: Optional[processes.ClientWeighting] = None
    exchanges: int = 1

    def build(
        self,
        task: Task,
        *,
        max_cohort_size: int,
        aggregator: Optional[Aggregator] = None,
        client_weighting: Optional[processes.ClientWeighting] = None,
        seed: int = 0,
    ) -> processes.FederatedProcess:
        """The algorithm's process for a task; see `processes.build_fed_avg`.

        Raises:
          ValueError: a weighting other than the algorithm's own, and what
            `build_fed_avg` raises.
        """
        if client_weighting is None:
            client_weighting = self.weighting
        if self.weighting is not None and client_weighting != self.weighting:
            raise ValueError(
                f"{type(self.client_work).__name__} needs client weighting "
                f"{self.weighting.kind!r}, got {client_weighting}"
            )
        return processes.build_fed_avg(
            task,
            client_work=self.client_work,
            server_work=self.server_work,
            aggregator=aggregator,
            client_weighting=client_weighting,
            max_cohort_size=max_cohort_size,
            seed=seed,
        )
