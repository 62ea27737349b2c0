"""What a run evaluates, and what chooses its best model."""

from __future__ import annotations

from typing import Optional

from tfl_research.errors import UserError
from tfl_research.outputs import Release
from tfl_research.program.config import RunConfig
from tfl_research.program.evaluation import deciding
from tfl_research.program.evaluation.candidates import Candidates
from tfl_research.program.evaluation.releases import Releases
from tfl_research.program.interfaces import Account, Evaluates
from tfl_research.program.states import NOT_EVALUATED, NoEvaluation


def candidates(
    evaluator: Evaluates,
    config: RunConfig,
    task_metric: Optional[str],
    releases: Releases,
    account: Optional[Account],
) -> tuple[Candidates, Optional[str]]:
    """What keeps the models of a run, and why no metric is meant to choose one.

    Args:
      evaluator: of models.
      config: has the metric that the user gave.
      task_metric: the task's metric, or None.
      releases: what the run gives out.
      account: charges private metrics.

    Returns:
      The candidates, and None or a reason.

    Raises:
      UserError: see `deciding.selection`.
    """
    selection, metric = None, config.selection_metric or task_metric
    reason: Optional[str] = None
    if not evaluator.splits:
        reason = NOT_EVALUATED
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
    """`candidates` of a run whose states have no model.

    Raises:
      UserError: a setting needs a model.
    """
    for name, value in (
        ("selection_metric", config.selection_metric),
        ("early_stopping_patience", config.early_stopping_patience),
    ):
        if value is not None:
            raise UserError(
                f"--{name}={value}: the state of the process has no model "
                "(global_model_weights) to evaluate; leave it out"
            )
    return Candidates(NoEvaluation(), None, release), NOT_EVALUATED
