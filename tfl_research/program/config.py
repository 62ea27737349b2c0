"""Settings of a run: length, evaluation, checkpoints and output."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Optional, Union


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Length, evaluation, checkpoints and output of a run.

    Attributes:
      rounds: number of planned rounds, at least 1.
      evaluate_every: number of rounds from one evaluation to the next; the last round
        is evaluated too.
      checkpoint_every: number of rounds from one checkpoint to the next; the last
        round has a checkpoint too.
      checkpoint_seconds: a checkpoint is also written when the last checkpoint is
        older than this many seconds. The time of a checkpoint changes no result.
      keep_checkpoints: number of newest checkpoints that are kept.
      selection_metric: the metric that picks the best model and that early stopping
        watches, see `evaluation.deciding.deciding_column`. By default the task's
        metric, or the private accuracy if the run has it.
      client_weights: weight of a client in the columns `eval_weighted_mean_...`, by
        client id; 1 for other clients. Empty without such columns.
      early_stopping_patience: stops the run after this many evaluations in a row
        without a better value; None never stops early.
      seed: seed of the clients' local shuffles.
      cohort_seed: the seed of local shuffles instead of `seed`, if nobody may know
        which examples a client uses (record-level privacy).
      client_secret: the secret from which clients' secrets are drawn, if clients add
        noise that the server must not know (`data.client_secrets`). A mapping by
        client if each client has its own secret; None without such noise.
      max_evaluation_examples: largest number of evaluated examples of a split.
      evaluation_batch_size: examples in a batch of the evaluation.
      evaluate_separately: whether a batch of the evaluation has the examples of one
        client alone; see `evaluation.Evaluator`.
      report: whether report.html is written when the run ends.
      export: whether the final and the best model are written when the run ends.
      progress_bar: whether a progress bar is drawn; by default on a terminal.
      print_every: rounds from one printed line to the next, without a progress bar.
      own_server_parts: words for a user's own parts that can change the model at the
        server, which the error of a diverged model names; empty without such parts.

    Raises:
      ValueError: a number is below its minimum.
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
    client_secret: Union[int, Mapping[str, int], None] = dataclasses.field(
        default=None, repr=False
    )
    max_evaluation_examples: Optional[int] = None
    evaluation_batch_size: int = 512
    evaluate_separately: bool = False
    report: bool = True
    export: bool = True
    progress_bar: Optional[bool] = None
    print_every: int = 1
    own_server_parts: str = ""

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
