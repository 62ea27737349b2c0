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
# In the place of a column, where the exponential mechanism chooses the best model.
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
    """The column, or columns with weights, that decides; None if nothing may decide.

    "accuracy" means "eval_accuracy", on the clients' test splits, or
    "held_out_accuracy" where a run withholds the former and has held-out clients. Other
    columns of an evaluation ("held_out_loss") and weighted sums
    ("auc:0.7,accuracy:0.3") are possible.

    Args:
      metric: as the user gave it, or None.
      task_metric: the task's metric.
      release: says which columns are released.
      splits: names of the evaluated splits.
      is_private: whether the run has the column `PRIVATE_ACCURACY`, which decides by
        default.

    Raises:
      ValueError: `metric` names a column that is withheld, or the private accuracy of
        a run without; names the ways out.
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
    """How a metric picks the best model; None if none may, or a private choice picks.

    Args:
      config: has the metric that the user gave.
      task_metric: the task's metric.
      splits: names of the evaluated splits.
      releases: which outputs the run releases.
      metrics: the declared metrics, by name; see `tasks.metrics`.

    Raises:
      UserError: the metric of the configuration is withheld, or it is not declared
        which direction of the metric is better.
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
