"""Assembles task, client work, aggregator and server optimizer into TFF processes.

`runtime` executes processes.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy

if TYPE_CHECKING:
    from tfl_research.processes.client_states import ClientStateSpec as ClientStateSpec
    from tfl_research.processes.fed_avg import (
        build_fed_avg as build_fed_avg,
        cohort_type as cohort_type,
        model_dimension as model_dimension,
    )
    from tfl_research.processes.federated_process import (
        FederatedProcess as FederatedProcess,
    )
    from tfl_research.processes.server_work import (
        Aggregated as Aggregated,
        OptimizerStep as OptimizerStep,
        ReportedStep as ReportedStep,
        ServerWork as ServerWork,
    )
    from tfl_research.processes.weighting import (
        ClientWeighting as ClientWeighting,
        by_examples as by_examples,
        capped as capped,
        uniform as uniform,
    )
else:
    __getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
