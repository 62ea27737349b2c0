"""Assembly of task, client work, aggregator and server optimizer into TFF processes.

How a process is executed is decided in `runtime`, not here.
"""

from tfl_research.processes.client_states import ClientStateSpec
from tfl_research.processes.fed_avg import (
    build_fed_avg,
    cohort_type,
    functional_model,
)
from tfl_research.processes.federated_process import FederatedProcess
from tfl_research.processes.server_work import Aggregated, OptimizerStep, ServerWork
from tfl_research.processes.weighting import (
    ClientWeighting,
    by_examples,
    capped,
    uniform,
)

__all__ = [
    "Aggregated",
    "ClientStateSpec",
    "ClientWeighting",
    "FederatedProcess",
    "OptimizerStep",
    "ServerWork",
    "build_fed_avg",
    "by_examples",
    "capped",
    "cohort_type",
    "functional_model",
    "uniform",
]
