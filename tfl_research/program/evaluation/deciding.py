"""The column of metrics.csv that decides which model is the best."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Optional

from tfl_research.errors import UserError
from tfl_research.outputs import Release
from tfl_research.program.config import RunConfig
from tfl_research.program.evaluation.releases import Releases
from tfl_research.program.evaluation.selection import Selection
from tfl_research.tasks.metrics import Metric

PRIVATE_ACCURACY = "private_accuracy"
# Takes the place of a column if the exponential mechanism chooses the best model.
PRIVATE_CHOICE = "private_choice"
_EVAL, _HELD_OUT = "eval_", "held_out_"
NOTHING_DECIDES = (
    "metrics on the training clients' examples are withheld, and no "
    "clients are held out"
)


def deciding_column(
    metric: Optional[str],
    task_metric: str,
    release: Release,
    splits: Collection[str],
    *,
    is_private: bool = False,
) -> Optional[str]:
    """Returns the column, or columns with weights, that decides, or None.

    "accuracy" means "eval_accuracy", on the clients' test splits. If a run withholds
    this column and has held-out clients, "accuracy" means "held_out_accuracy". Other
    columns of an evaluation ("held_out_loss") and weighted sums
    ("auc:0.7,accuracy:0.3") are possible.

    Args:
      metric: the metric that the user gave, or None.
      task_metric: the task's metric.
      release: says which columns are released.
      splits: names of the evaluated splits.
      is_private: whether the run has the column `PRIVATE_ACCURACY`, which decides by
        default.

    Raises:
      ValueError: the run withholds the column that `metric` names, or `metric` is the
        private accuracy and the run does not have it. The message names the ways out.
    """
    if metric is None and is_private:
        return PRIVATE_ACCURACY
    parts = [part.strip() for part in (metric or task_metric).split(",")]
    if PRIVATE_ACCURACY in parts and not is_private:
        raise ValueError(
            f"there is no {PRIVATE_ACCURACY} without --evaluation_noise_multiplier; "
            "give that flag"
        )
    columns = [_column(part, _EVAL) for part in parts]
    withheld = [name for name in columns if not release.shows(name.partition(":")[0])]
    if not withheld:
        return ",".join(columns)
    if any(part.startswith(_EVAL) for part in parts):
        name = withheld[0].partition(":")[0]
        raise ValueError(
            f"{name} is withheld, because ε does not cover it; give a held_out_ "
            f"metric, or --release_exact={name}"
        )
    if "held_out" in splits:
        return ",".join(_column(part, _HELD_OUT) for part in parts)
    return None


def _column(metric: str, prefix: str) -> str:
    named = metric.startswith((_EVAL, _HELD_OUT)) or metric == PRIVATE_ACCURACY
    return metric if named else f"{prefix}{metric}"


def selection(
    config: RunConfig,
    task_metric: str,
    splits: Collection[str],
    releases: Releases,
    metrics: Mapping[str, Metric],
) -> Optional[Selection]:
    """Makes the selection of the best model by a metric.

    Args:
      config: the run's settings, with the metric that the user gave.
      task_metric: the task's metric.
      splits: names of the evaluated splits.
      releases: which outputs the run releases.
      metrics: the declared metrics, by name; see `tasks.metrics`.

    Returns:
      The selection; None if no metric may pick, or if a private choice picks.

    Raises:
      UserError: the run withholds the metric of the configuration, or the metric has
        no declared direction.
    """
    if releases.choice is not None:
        return None
    try:
        column = deciding_column(
            config.selection_metric,
            task_metric,
            releases.release,
            splits,
            is_private=releases.accuracy is not None,
        )
        if column is None:
            return None
        return Selection(column, config.early_stopping_patience, metrics)
    except ValueError as error:
        given = f"--selection_metric={config.selection_metric or task_metric}"
        raise UserError(f"{given}: {error}") from error
