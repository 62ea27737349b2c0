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
    """Builds FedAvg, FedOpt or FedProx.

    FedAvg (McMahan et al. 2017, arXiv 1602.05629) is the default. With another server
    optimizer this is FedOpt (Reddi et al. 2020, arXiv 2003.00295: FedAvgM, FedAdam,
    FedYogi, FedAdagrad). With a proximal term this is FedProx (Li et al. 2020, arXiv
    1812.06127).

    Args:
      steps: the local steps of each client in a round.
      server: the server's optimizer; it takes the mean update for a step by default.
      proximal_strength: the strength of FedProx's pull to the server's model; 0 is
        none.
    """
    return Algorithm(clients.LocalTraining(steps, proximal_strength), server)
