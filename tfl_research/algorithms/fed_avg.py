"""FedAvg, FedOpt and FedProx."""

from __future__ import annotations

from tfl_research import clients
from tfl_research.algorithms.algorithm import Algorithm
from tfl_research.processes.server_work import AVERAGING, OptimizerStep


def build_fed_avg(
    steps: clients.LocalSteps,
    *,
    server: OptimizerStep = AVERAGING,
    proximal_strength: float = 0.0,
) -> Algorithm:
    """FedAvg (McMahan et al. 2017), with a server optimizer FedOpt (Reddi et al. 2020:
    FedAvgM, FedAdam, FedYogi, FedAdagrad), with a proximal term FedProx.

    Args:
      steps: the clients' local steps.
      server: the server optimizer.
      proximal_strength: see `clients.LocalTraining`.
    """
    return Algorithm(clients.LocalTraining(steps, proximal_strength), server)
