"""Names that the flags still use."""

from tfl_research.models.optimizers import (
    ClientOptimizer as ClientOptimizerFlags,
    Optimizer as OptimizerFlags,
    ServerOptimizer as ServerOptimizerFlags,
)

__all__ = ["ClientOptimizerFlags", "OptimizerFlags", "ServerOptimizerFlags"]
