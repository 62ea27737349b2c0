"""Training: its length, seeds, evaluation, checkpoints and output."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Container
from typing import ClassVar, Optional

from tfl_research import settings
from tfl_research.errors import SettingError
from tfl_research.program import RunConfig
from tfl_research.program.evaluation.selection import metric_weights
from tfl_research.settings import Settings
from tfl_research.settings.kinds import LARGEST_SEED


@dataclasses.dataclass(frozen=True)
class Training(Settings):
    """Rounds and seeds of a run, its evaluations, and the files that it writes.

    Example:
      >>> training = tfl.Training(rounds=60, seed=1, evaluate_every=20)
      >>> tfl.Experiment("heart", training=training).check()
    """

    TITLE: ClassVar[str] = "Training"

    rounds: int = settings.integer(100, "Rounds of training.", minimum=1)
    seed: int = settings.integer(
        0,
        "Seed of splits, initial weights, shuffles and (without privacy) cohorts.",
        minimum=0,
        maximum=LARGEST_SEED,
    )
    run_seed: Optional[str] = settings.text(
        None,
        "Seed of the noise and of private cohorts, for exactly reproducible noise. "
        "WARNING: whoever learns this seed can subtract the noise, and ε then means "
        "nothing. Give it in tests only; when not given, a secret seed is drawn.",
        secret=True,
    )
    evaluate_every: int = settings.integer(
        10,
        "Evaluate after every this many rounds, and after the last round.",
        minimum=1,
    )
    max_evaluation_examples: Optional[int] = settings.integer(
        None,
        "Largest number of examples of a split that are evaluated; all when not given.",
        minimum=1,
    )
    selection_metric: Optional[str] = settings.text(
        None,
        "Evaluation metric that chooses the best model; the task's own when not "
        "given. Also several metrics with weights, as auc:0.7,accuracy:0.3. "
        "client_mean_auc counts every client once.",
    )
    client_weight: tuple[str, ...] = settings.repeated(
        "Weight of a client in weighted means over clients, as 'Cleveland=2'; other "
        "clients have weight 1. --selection_metric=weighted_mean_auc selects by such "
        "a mean of the clients' AUC. May be repeated."
    )
    early_stopping_patience: Optional[int] = settings.integer(
        None,
        "Stop after this many evaluations without a better value; never when not "
        "given.",
        minimum=1,
    )
    checkpoint_every: int = settings.integer(
        10,
        "Write a checkpoint after every this many rounds, and after the last round.",
        minimum=1,
    )
    keep_checkpoints: int = settings.integer(
        3, "Number of newest checkpoints that are kept.", minimum=1
    )
    print_every: int = settings.integer(
        1,
        "Print a line after every this many rounds. With a progress bar, the bar "
        "shows the newest round, and only rounds with an evaluation have a line.",
        minimum=1,
    )
    progress_bar: Optional[bool] = settings.switch(
        None, "Draw a progress bar; by default on a terminal."
    )
    tensorboard: bool = settings.switch(True, "Write TensorBoard event files.")
    report: bool = settings.switch(True, "Write report.html when the run ends.")
    export: bool = settings.switch(
        True, "Write the final and the best model as SavedModels when the run ends."
    )

    def check(self) -> None:
        if self.selection_metric is not None:
            try:
                metric_weights(self.selection_metric)
            except ValueError as error:
                raise self.refused("selection_metric", str(error)) from error
        if self.run_seed is not None:
            try:
                fits = 0 <= int(self.run_seed) < 2**128
            except ValueError:
                fits = False
            if not fits:
                raise self.refused("run_seed", "must be a whole number in [0, 2^128)")

    def refused(self, field: str, why: str) -> SettingError:
        """Returns the error for a field's value, but never shows the run seed."""
        if field == "run_seed":
            return SettingError(f"--run_seed: {why}")
        return super().refused(field, why)

    def client_weights(self, client_ids: Container[str]) -> dict[str, float]:
        """Returns the weights by client.

        Args:
          client_ids: the ids of all clients.

        Raises:
          SettingError: there is no such client, a client is given twice, or a weight is
            missing or negative.
        """
        found: dict[str, float] = {}
        for text in self.client_weight:
            name, _, weight = text.rpartition("=")
            try:
                value = float(weight)
            except ValueError:
                value = math.nan
            flag = f"--client_weight={text}"
            if not name or not 0 <= value < math.inf:
                raise SettingError(
                    f"{flag}: must be NAME=WEIGHT, with a weight of at least 0"
                )
            if name not in client_ids:
                raise SettingError(f"{flag}: the task has no client {name!r}")
            if name in found:
                raise SettingError(
                    f"{flag}: client {name} has a weight already; give each client "
                    "one weight"
                )
            found[name] = value
        return found

    def config(self) -> RunConfig:
        """Returns the settings of the round loop that do not depend on the task."""
        return RunConfig(
            rounds=self.rounds,
            evaluate_every=self.evaluate_every,
            checkpoint_every=self.checkpoint_every,
            keep_checkpoints=self.keep_checkpoints,
            selection_metric=self.selection_metric,
            early_stopping_patience=self.early_stopping_patience,
            seed=self.seed,
            max_evaluation_examples=self.max_evaluation_examples,
            progress_bar=self.progress_bar,
            print_every=self.print_every,
            report=self.report,
            export=self.export,
        )
