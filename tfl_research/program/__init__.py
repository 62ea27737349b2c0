"""The round loop of a run: evaluation, selection, callbacks, progress, results.

This package does not depend on the algorithm, on how ε is computed, or on how a cohort
is drawn. `each_round` has the steps of a round, `evaluation` the evaluations and the
choice of the best model, `results` what a finished run writes. `storage` writes and
reads the files of a run folder.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy
from tfl_research.program.callbacks.base import (
    Callback as Callback,
    CallbackError as CallbackError,
    Stop as Stop,
)
from tfl_research.program.config import RunConfig as RunConfig
from tfl_research.program.reports import (
    RoundReport as RoundReport,
    RunResult as RunResult,
    RunStart as RunStart,
)

if TYPE_CHECKING:
    from tfl_research.program.callbacks.mlflow import MLflow as MLflow
    from tfl_research.program.callbacks.tensorboard import TensorBoard as TensorBoard
    from tfl_research.program.evaluation.client_metrics import Evaluation as Evaluation
    from tfl_research.program.evaluation.evaluator import Evaluator as Evaluator
    from tfl_research.program.evaluation.personal import (
        PersonalEvaluator as PersonalEvaluator,
    )
    from tfl_research.program.evaluation.personal_metrics import (
        PersonalEvaluation as PersonalEvaluation,
    )
    from tfl_research.program.loop import rounds as rounds, run as run
    from tfl_research.program.results.export import (
        export_model as export_model,
        model_with as model_with,
    )
    from tfl_research.program.states import (
        NoEvaluation as NoEvaluation,
        StateOptions as StateOptions,
    )
else:
    __getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
