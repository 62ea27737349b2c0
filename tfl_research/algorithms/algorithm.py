"""`Algorithm`: client work and server work that belong together."""

from __future__ import annotations

import dataclasses
from typing import Optional

import tensorflow_federated as tff

from tfl_research import clients, processes
from tfl_research.aggregators import SumFormats
from tfl_research.errors import SettingError
from tfl_research.processes.aggregation import Aggregator
from tfl_research.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """A federated algorithm, independent of task and aggregator.

    Attributes:
      client_work: what a client computes.
      server_work: what the server computes from the cohort's mean.
      weighting: the client weighting that the paper's argument needs; None leaves the
        choice open.
      exchanges: number of rounds of the process in one round of the paper, all with
        the same cohort (see `sampling.Repeated`) and the same local steps (see
        `data.ClientData.with_exchanges`).
      needs_mean: whether the updates must be averaged without changes. This is so if
        clients send reports: reports are always averaged, since an aggregator acts on
        updates only, so no robust rule protects a report and no mechanism adds noise to
        a report. This is also so if clients keep what they sent: the server must add up
        exactly what they sent.
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
        secure_sums: Optional[SumFormats] = None,
    ) -> processes.FederatedProcess:
        """Builds the algorithm's process for a task; see `processes.build_fed_avg`.

        Raises:
          ValueError: `client_weighting` is not the algorithm's own weighting, the
            aggregator is not a `tff.aggregators.MeanFactory` although the algorithm
            needs the mean (a SettingError), or `build_fed_avg` refuses the parts.
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
                f"--aggregator={type(aggregator).__name__}: clients of "
                f"{type(self.client_work).__name__} report or keep more than their "
                "update, so the server must take the mean of the updates as they are; "
                "give aggregators.mean()"
            )
        return processes.build_fed_avg(
            task,
            client_work=self.client_work,
            server_work=self.server_work,
            aggregator=aggregator,
            client_weighting=client_weighting,
            max_cohort_size=max_cohort_size,
            seed=seed,
            secure_sums=secure_sums,
        )
