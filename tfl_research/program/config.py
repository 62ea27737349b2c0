"""How long a run goes, and what it evaluates, keeps and prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Optional


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Length, evaluation, checkpoints and output of a run.

    Attributes:
      rounds: rounds planned, at least 1.
      evaluate_every: evaluates after every so many rounds, and after the last.
      checkpoint_every: writes a checkpoint after every so many rounds, and after
        the last.
      checkpoint_seconds: also when the last one is older than this many seconds.
        When a checkpoint is written changes no result.
      keep_checkpoints: newest checkpoints kept.
      selection_metric: the metric that picks the best model and that early
        stopping watches: "accuracy" (on clients' test splits, as "eval_accuracy"),
        or any other column of an evaluation ("held_out_loss"), or several with
        weights ("auc:0.7,accuracy:0.3"). The task's own by default.
      client_weights: how much a client counts in the columns `eval_weighted_mean_...`,
        by its id and 1 for others; empty for no such columns.
      early_stopping_patience: stops after so many evaluations in a row without a
        better value; None never does.
      seed: of the cohort's local shuffles.
      cohort_seed: in the place of `seed` for these, where which examples a client
        uses must be secret (record-level privacy).
      withhold_train_metrics: keeps the clients' training loss, accuracy and example
        counts, which ε does not cover, out of every output; and so what a simulated
        round tells of data where the rest of it tells nothing.
      max_evaluation_examples: caps the examples of a split that are evaluated.
      evaluation_batch_size: examples in a batch of the evaluation.
      report: whether report.html is written when the run ends.
      progress_bar: whether to draw one; by default on a terminal.
      print_every: prints the line of every so many rounds.

    Raises:
      ValueError: a number below its minimum.
    """

    rounds: int
    evaluate_every: int = 10
    checkpoint_every: int = 10
    checkpoint_seconds: float = 30.0
    keep_checkpoints: int = 3
    selection_metric: Optional[str] = None
    client_weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    early_stopping_patience: Optional[int] = None
    seed: int = 0
    cohort_seed: Optional[int] = dataclasses.field(default=None, repr=False)
    withhold_train_metrics: bool = False
    max_evaluation_examples: Optional[int] = None
    evaluation_batch_size: int = 512
    report: bool = True
    progress_bar: Optional[bool] = None
    print_every: int = 1

    def __post_init__(self) -> None:
        for name in (
            "rounds",
            "evaluate_every",
            "checkpoint_every",
            "keep_checkpoints",
            "early_stopping_patience",
            "max_evaluation_examples",
            "evaluation_batch_size",
            "print_every",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not self.checkpoint_seconds > 0:
            raise ValueError(
                f"checkpoint_seconds must be positive, got {self.checkpoint_seconds}"
            )

    def selection_column(self, task_metric: str) -> str:
        """The column of metrics.csv that picks the best model."""
        text = self.selection_metric or task_metric
        return ",".join(_column(part.strip()) for part in text.split(","))


def _column(metric: str) -> str:
    split = metric.startswith(("eval_", "held_out_"))
    return metric if split else f"eval_{metric}"
