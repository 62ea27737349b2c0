"""Reports of the loop to callbacks and callers: start, rounds and result of a run."""

from __future__ import annotations

import dataclasses
import functools
import io
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional

from tfl_research.errors import UserError
from tfl_research.storage.metrics import measurements

if TYPE_CHECKING:
    import pandas

    from tfl_research.program.evaluation.client_metrics import Evaluation


@dataclasses.dataclass(frozen=True)
class RunStart:
    """The start of a run, as callbacks see it before the first round.

    Attributes:
      path: the run folder.
      experiment: name of the experiment.
      hparams: the hyperparameters in hparams.json; never the run seed.
      planned_rounds: number of planned rounds.
      completed_rounds: number of rounds up to the checkpoint that the run continues
        from; 0 in a new run.
      rows: the rows of metrics.csv of the completed rounds, as text, without empty
        cells.
      repeated_rounds: rounds that an earlier start logged after the checkpoint.
        Callbacks see these rounds again, with the same metrics except
        `round_seconds`.
      untrained: metrics of the untrained model, by the columns of metrics.csv.

    Example:
      >>> class Greeting(tfl.Callback):
      ...     def on_start(self, run):
      ...         print(f"{run.hparams['task']} begins in {run.path}")
      >>> experiment = tfl.Experiment(
      ...     "heart",
      ...     training=tfl.Training(rounds=2),
      ...     callbacks=[Greeting()],
      ... )
      >>> result = experiment.run("results/heart")
      untrained  eval loss 0.6931 ...
      heart begins in results/heart
      round 1/2 ...
    """

    path: pathlib.Path
    experiment: str
    hparams: Mapping[str, Any]
    planned_rounds: int
    completed_rounds: int
    rows: Sequence[Mapping[str, str]]
    repeated_rounds: Sequence[int]
    untrained: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class RoundReport:
    """The results of one round.

    Attributes:
      round_number: the round's number; rounds are numbered from 1.
      metrics: the round's row of metrics.csv: numbers by column, without empty cells
        and columns that the run withholds (`outputs.Release`).
      evaluation: the cells of `metrics` that come from an evaluation (`eval_loss`);
        empty in rounds without an evaluation.
      epsilon: ε of all rounds so far; infinite for a run without privacy.
      stop_reason: why the run ends with this round (a key of `STOP_REASONS`); None
        when the run continues. If other runs spend the rest of a shared budget between
        two rounds, the run ends and no report has a reason.
      weights: the global model after the round, with `trainable` and `non_trainable`;
        None if the process trains no model.
      measurements: arrays by name that the round measured in addition to numbers:
        vectors, and texts as arrays of objects; see `storage.metrics.measurements`.

    Example:
      >>> import io
      >>> experiment = tfl.Experiment("heart", training=tfl.Training(rounds=2))
      >>> for report in experiment.rounds("results/heart", stream=io.StringIO()):
      ...     loss = report.metrics["train_loss"]
      ...     print(report.round_number, f"{loss:.2f}", sorted(report.evaluation)[:2])
      1 0.61 []
      2 0.55 ['eval_accuracy', 'eval_auc']
    """

    round_number: int
    metrics: Mapping[str, Any]
    evaluation: Mapping[str, float]
    epsilon: float
    stop_reason: Optional[str] = None
    weights: Any = dataclasses.field(default=None, repr=False)
    measurements: Mapping[str, Any] = dataclasses.field(
        default_factory=dict, repr=False
    )


@dataclasses.dataclass(frozen=True)
class RunResult:
    """The result of a complete run.

    Attributes:
      completed_rounds: number of completed rounds, including earlier starts.
      stop_reason: "rounds", "budget", "early_stopping" or "callback" (see
        `storage.run_record.STOP_REASONS`).
      stop_message: the reason of the callback that stopped the run; None otherwise.
      state: the final process state, a secret of a private run's owner.
      best_round: round of the best model; None when no evaluation had a value.
      best_value: selection metric of the best model; None for a private choice.
      epsilon: ε of all rounds; infinite for a run without privacy, 0 without a round.
      evaluations: evaluations of the "final" and the "best" model, by (model, split);
        without splits that the run withholds.
      summary: the content of summary.json: metrics of the untrained, final and best
        model.
      path: the run folder.
      metrics_csv: the text of metrics.csv.

    Example:
      >>> experiment = tfl.Experiment("heart", training=tfl.Training(rounds=2))
      >>> result = experiment.run("results/heart")
      untrained  eval loss 0.6931 ...
      >>> ended = result.ended
      >>> ended.stop_reason, ended.completed_rounds, ended.best_round
      ('rounds', 2, 2)
    """

    completed_rounds: int
    stop_reason: str
    state: Any = dataclasses.field(repr=False)
    best_round: Optional[int]
    best_value: Optional[float]
    summary: dict[str, Any] = dataclasses.field(repr=False)
    path: pathlib.Path
    epsilon: float = math.inf
    evaluations: Mapping[tuple[str, str], Evaluation] = dataclasses.field(
        default_factory=dict, repr=False
    )
    metrics_csv: str = dataclasses.field(default="", repr=False)
    stop_message: Optional[str] = None

    @property
    def metrics(self) -> pandas.DataFrame:
        """The table of metrics.csv: a row for each round, NaN for empty cells.

        Each call returns a table of its own, which the caller may change.
        """
        return self._table.copy()

    @functools.cached_property
    def _table(self) -> pandas.DataFrame:
        import pandas

        return pandas.read_csv(io.StringIO(self.metrics_csv))

    @property
    def delta(self) -> Optional[float]:
        """δ of `epsilon`; None without privacy."""
        deltas = self._table["delta"].dropna()
        return float(deltas.iloc[-1]) if len(deltas) else None

    @functools.cached_property
    def measurements(self) -> dict[int, dict[str, Any]]:
        """The metrics that are not scalar numbers, as arrays by round and name.

        The file measurements.jsonl has them; see `storage.metrics.measurements`.

        Raises:
          UserError: the folder does not hold this result any more.
        """
        self.check_folder()
        return measurements.read(self.path / "measurements.jsonl")

    def check_folder(self) -> None:
        """Raises UserError if the folder does not hold this result any more.

        The files of the folder would be about other rounds, or about another run.
        """
        path = self.path / "metrics.csv"
        try:
            found = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UserError(
                f"{path} does not exist any more, so the folder does not hold this "
                "result; run the experiment again"
            ) from None
        if found != self.metrics_csv:
            raise UserError(
                f"{self.path} does not hold this result of {self.completed_rounds} "
                "rounds any more: the run has gone on, or the folder holds another "
                "run; run the experiment again for the newest result"
            )
