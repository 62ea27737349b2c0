"""What an algorithm is: client work and server work that belong together."""

from __future__ import annotations

import dataclasses
from typing import Optional

import tensorflow_federated as tff

from tfl_research import clients, processes
from tfl_research.errors import SettingError
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
      needs_mean: whether updates have to be averaged as they are. An aggregator acts
        on updates only: what clients report beside them is averaged whatever it does,
        so that no rule would protect it, no mechanism noise it and no secure sum hide
        it; and where clients keep what they sent, the server must add up the same.
    """

    client_work: clients.ClientWork
    server_work: processes.ServerWork
    weighting: Optional[processes.ClientWeighting] = None
    exchanges: int = 1
    needs_mean: bool = False

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
          ValueError: a weighting other than the algorithm's own, an aggregator other
            than a `tff.aggregators.MeanFactory` where the algorithm needs the mean,
            and what `build_fed_avg` raises.
        """
        if client_weighting is None:
            client_weighting = self.weighting
        if self.weighting is not None and client_weighting != self.weighting:
            raise ValueError(
                f"{type(self.client_work).__name__} needs client weighting "
                f"{self.weighting.kind!r}, got {client_weighting}"
            )
        if self.needs_mean and not isinstance(
            aggregator, (type(None), tff.aggregators.MeanFactory)
        ):
            raise SettingError(
                f"--aggregator: {type(self.client_work).__name__} needs updates that "
                "are averaged as they are, beside what its clients report or keep; "
                f"expected aggregators.mean(), got {type(aggregator).__name__}"
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
