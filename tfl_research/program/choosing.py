"""Decides which models a run evaluates, and which metric chooses the best model."""

from __future__ import annotations

from typing import Optional, Protocol

from tfl_research.errors import UserError
from tfl_research.outputs import Release
from tfl_research.program.config import RunConfig
from tfl_research.program.evaluation import deciding
from tfl_research.program.evaluation.candidates import Candidates
from tfl_research.program.evaluation.releases import Releases
from tfl_research.program.interfaces import Account, Evaluates
from tfl_research.program.states import NOT_EVALUATED, NoEvaluation

OWN_STATISTICS = (
    "clients keep their own statistics (non_trainable='local'), and only those of "
    "their last round; the exported model has the initial statistics"
)


class Chooses(Protocol):
    """The part of `tasks.Task` that decides about a best model."""

    @property
    def selection_metric(self) -> Optional[str]: ...

    @property
    def non_trainable(self) -> Optional[str]: ...


def candidates(
    evaluator: Evaluates,
    config: RunConfig,
    task: Chooses,
    releases: Releases,
    account: Optional[Account],
) -> tuple[Candidates, Optional[str]]:
    """Makes the candidates for the best model of a run.

    Args:
      evaluator: the evaluator of models.
      config: the run's settings, with the metric that the user gave.
      task: the task; this uses its `selection_metric` (None for no metric) and its
        `non_trainable`.
      releases: which outputs the run releases.
      account: charges private metrics.

    Returns:
      The candidates, and the reason why no metric chooses among them, or None.

    Raises:
      UserError: see `deciding.selection`.
    """
    selection, metric = None, config.selection_metric or task.selection_metric
    reason: Optional[str] = None
    if not evaluator.splits:
        reason = NOT_EVALUATED
    elif task.non_trainable == "local":
        reason = OWN_STATISTICS
        _refuse_selection(config, reason)
    elif metric is None:
        reason = "no selection_metric is given"
    else:
        selection = deciding.selection(
            config, metric, evaluator.splits, releases, evaluator.metrics
        )
    kept = Candidates(
        evaluator,
        selection,
        releases.release,
        accuracy=releases.accuracy,
        choice=releases.choice,
        account=account,
    )
    return kept, reason


def nothing(config: RunConfig, release: Release) -> tuple[Candidates, str]:
    """Makes the candidates of a run whose states have no model: they choose nothing.

    Raises:
      UserError: a setting needs a model.
    """
    _refuse_selection(
        config,
        "the state of the process has no model (global_model_weights) to evaluate",
    )
    return Candidates(NoEvaluation(), None, release), NOT_EVALUATED


def _refuse_selection(config: RunConfig, reason: str) -> None:
    for name, value in (
        ("selection_metric", config.selection_metric),
        ("early_stopping_patience", config.early_stopping_patience),
    ):
        if value is not None:
            raise UserError(f"--{name}={value}: {reason}; leave it out")
