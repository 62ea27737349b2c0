"""The round loop of a run and everything in the run's folder.

It does not know which algorithm runs, nor how ε is computed or a cohort drawn.
"""

from tfl_research import _lazy
from tfl_research.program.config import RunConfig, RunResult
from tfl_research.program.errors import (
    RunInterrupted,
    TrainingDivergedError,
    UserError,
)
from tfl_research.program.run_folder import RunFolder

__all__ = [
    "Checkpoint",
    "CheckpointStore",
    "ClientStates",
    "Evaluation",
    "Evaluator",
    "MetricsLog",
    "PersonalEvaluation",
    "PersonalEvaluator",
    "RunConfig",
    "RunFolder",
    "RunInterrupted",
    "RunResult",
    "TrainingDivergedError",
    "UserError",
    "export_model",
    "run",
]
# Evaluation and export import TensorFlow; the loop itself comes with them.
__getattr__, _ = _lazy.attach(
    __name__,
    {
        "Checkpoint": "tfl_research.program.checkpoints",
        "CheckpointStore": "tfl_research.program.checkpoints",
        "ClientStates": "tfl_research.program.client_states",
        "Evaluation": "tfl_research.program.client_metrics",
        "Evaluator": "tfl_research.program.evaluation",
        "MetricsLog": "tfl_research.program.metrics_log",
        "PersonalEvaluation": "tfl_research.program.personal_evaluation",
        "PersonalEvaluator": "tfl_research.program.personal_evaluation",
        "export_model": "tfl_research.program.export",
        "run": "tfl_research.program.loop",
    },
)
