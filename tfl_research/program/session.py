"""One start of a run: the state between its rounds, and its open files."""

from __future__ import annotations

import collections
import time
from typing import Any, Optional, TextIO

from tfl_research.errors import UserError
from tfl_research.program import finish
from tfl_research.program.breakdowns import breakdown_line
from tfl_research.program.client_metrics import Evaluation
from tfl_research.program.config import RunConfig
from tfl_research.program.interfaces import (
    Account,
    Engine,
    Evaluates,
    EvaluatesPersonal,
    Exporter,
    Sampler,
)
from tfl_research.program.progress import Progress, metrics_text
from tfl_research.program.rounds import Rounds
from tfl_research.program.selection import Selection
from tfl_research.storage import atomic, nest
from tfl_research.storage.checkpoints import Checkpoint, CheckpointStore
from tfl_research.storage.client_states import EMPTY_TABLE, ClientStates
from tfl_research.storage.metrics_log import MetricsLog
from tfl_research.storage.run_folder import RunFolder
from tfl_research.storage.run_record import STOP_REASONS


class Session:
    """Restores a run, does its rounds and writes its results; used by `run`.

    Attributes:
      state: the process state after the last completed round.
      completed: rounds done, those of earlier starts included.
      selection: the best model so far.
    """

    def __init__(
        self,
        task: Any,
        engine: Engine,
        sampler: Sampler,
        folder: RunFolder,
        config: RunConfig,
        account: Optional[Account],
        evaluator: Evaluates,
        stream: Optional[TextIO],
        client_states: Optional[ClientStates] = None,
        personal_evaluator: Optional[EvaluatesPersonal] = None,
        message_bytes: Optional[tuple[int, int]] = None,
    ):
        self._engine = engine
        self._rounds = Rounds(
            task.train, engine, sampler, config, account, client_states, message_bytes
        )
        self._folder = folder
        self._config = config
        self._account = account
        self._evaluator = evaluator
        self._client_states = client_states
        self._personal_evaluator = personal_evaluator
        self._stream = stream
        self._progress = Progress(
            config.rounds,
            stream=stream,
            bar=config.progress_bar,
            print_every=config.print_every,
        )
        self._store = CheckpointStore(
            folder.checkpoints_path, keep=config.keep_checkpoints
        )
        self.selection = Selection(
            config.selection_column(task.selection_metric),
            config.early_stopping_patience,
        )
        self.state: Any = None
        self.completed = 0
        self._checkpointed = 0
        self._checkpoint_time = time.monotonic()
        self._best: Any = None
        self._untrained: dict[str, float] = {}
        # By the round of the model: the last evaluation's and the best one's.
        self._evaluations: dict[int, dict[str, Evaluation]] = {}
        self._log: Optional[MetricsLog] = None
        self._scalars: Any = None

    def restore(self) -> None:
        """Takes the initial state, or the last checkpoint's, and opens the logs.

        Raises:
          UserError: see `run`.
        """
        self.state = self._engine.initialize()
        weights = self.state.global_model_weights
        found = self._store.load_latest(self.state, weights)
        if self._client_states is not None:
            if found is None:
                self._client_states.restore(0, EMPTY_TABLE)
            else:
                self._client_states.restore(
                    found.round_number, found.progress["client_states"]
                )
        if found is None:
            cells = self._evaluate(0, weights)
            for name in self.selection.columns:
                if name not in cells:
                    raise UserError(
                        f"selection metric {name!r} is not evaluated in this task; "
                        f"choose one of {', '.join(cells)}"
                    )
            self._untrained = dict(cells)
            self._progress.say(f"untrained  {metrics_text(cells)}")
        else:
            self._check_ledgers(found.progress["ledgers"])
            self.state, self._best = found.state, found.best
            self.completed = self._checkpointed = found.round_number
            self._untrained = {
                name: float(value) for name, value in found.progress["untrained"]
            }
            try:
                self.selection.restore(found.progress["selection"])
            except ValueError as error:
                raise UserError(f"{self._folder.path}: {error}") from error
            self._progress.say(
                f"resumes {self._folder.path} after round {self.completed} of "
                f"{self._config.rounds}"
            )
        self._log = MetricsLog(
            self._folder.metrics_path, completed_rounds=self.completed
        )
        if self._config.tensorboard:
            from tfl_research.program.tensorboard import ScalarWriter

            self._scalars = ScalarWriter(self._folder.logdir_path, self._log.rows)

    def rounds(self) -> str:
        """Does rounds until there is a reason to stop; returns the reason.

        Raises:
          TrainingDivergedError: the aggregated model is not finite.
        """
        while True:
            reason = self._stop_reason()
            if reason is not None:
                break
            number = self.completed + 1
            done = self._rounds.do(number, self.state, self._last_good())
            if done is None:
                reason = "budget"
                break
            self._finish(number, *done)
        if self._checkpointed != self.completed:
            self._checkpoint()
        return reason

    def _stop_reason(self) -> Optional[str]:
        if self.completed >= self._config.rounds:
            return "rounds"
        if self.selection.should_stop:
            return "early_stopping"
        if self._rounds.exceeds_budget(self.completed + 1):
            return "budget"
        return None

    def _finish(self, round_number: int, state: Any, row: dict[str, Any]) -> None:
        """Evaluates, logs and checkpoints a round, each when due."""
        config = self._config
        last = round_number == config.rounds or self._rounds.exceeds_budget(
            round_number + 1
        )
        if last or round_number % config.evaluate_every == 0:
            cells = self._evaluate(round_number, state.global_model_weights)
            row.update(cells)
            if self.selection.update(round_number, self.selection.value_of(cells)):
                self._best = nest.copied(state.global_model_weights)
            kept = (round_number, self.selection.best_round)
            self._evaluations = {
                r: found for r, found in self._evaluations.items() if r in kept
            }
        self._open_log().append(row)
        if self._scalars is not None:
            self._scalars.append(row)
        self.state, self.completed = state, round_number
        warning = breakdown_line(row)
        if warning is not None:
            self._progress.say(warning)
        self._progress.round_done(row)
        waited = time.monotonic() - self._checkpoint_time
        if (
            round_number % config.checkpoint_every == 0
            or waited >= config.checkpoint_seconds
        ):
            self._checkpoint()

    def _last_good(self) -> str:
        """Where there is a model that has not diverged, in words."""
        if not self._checkpointed:
            return "no checkpoint was due yet"
        return f"the last good checkpoint is {self._store.path(self._checkpointed)}"

    def _open_log(self) -> MetricsLog:
        if self._log is None:
            raise RuntimeError("restore() comes before rounds")
        return self._log

    def _evaluate(
        self, round_number: int, weights: Any
    ) -> collections.OrderedDict[str, float]:
        """Evaluates every split; cells of metrics.csv."""
        found = self._evaluations[round_number] = {
            split: self._evaluator.evaluate(weights, split)
            for split in self._evaluator.splits
        }
        cells: collections.OrderedDict[str, float] = collections.OrderedDict()
        for split, evaluation in found.items():
            cells.update(evaluation.columns(split))
        if set(self.selection.columns) <= set(cells):
            cells[self.selection.column] = self.selection.value_of(cells)
        return cells

    def _check_ledgers(self, positions: Any) -> None:
        if self._account is None:
            return
        try:
            self._account.check_positions(positions)
        except ValueError as error:
            raise UserError(str(error)) from error

    def _checkpoint(self) -> None:
        account = self._account
        # The rows first: a checkpoint counts on those of its rounds.
        self._open_log().sync()
        states = self._client_states
        if states is not None:
            states.sync()
        self._store.save(
            Checkpoint(
                self.completed,
                self.state,
                self._best,
                {
                    "selection": self.selection.export(),
                    "ledgers": {} if account is None else account.positions(),
                    "client_states": None if states is None else states.extent,
                    # Text, since JSON has no NaN.
                    "untrained": [(n, repr(v)) for n, v in self._untrained.items()],
                },
            )
        )
        if states is not None:
            states.drop_outdated(self._store.rounds()[-1])
        self._checkpointed = self.completed
        self._checkpoint_time = time.monotonic()

    def write_outputs(self, stop_reason: str, exporter: Exporter) -> dict[str, Any]:
        """Exports models and writes summary, clients' table and report.

        Returns:
          The content of summary.json.
        """
        self._progress.close()
        summary = finish.summarize(
            self._open_log().rows,
            completed_rounds=self.completed,
            planned_rounds=self._config.rounds,
            stop_reason=stop_reason,
            untrained=self._untrained,
            selection_column=self.selection.column,
            best_round=self.selection.best_round,
            best_value=self.selection.best_value,
        )
        models = {"final": (self.completed, self.state.global_model_weights)}
        if self.selection.best_round is not None:
            models["best"] = (self.selection.best_round, self._best)
        evaluations = {}
        for name, (round_number, weights) in models.items():
            if round_number not in self._evaluations:
                self._evaluate(round_number, weights)
            for split, evaluation in self._evaluations[round_number].items():
                evaluations[name, split] = evaluation
        if stop_reason != "diverged":
            summary.update(self._evaluate_personal())
        finish.write_outputs(
            self._folder,
            summary,
            {name: weights for name, (_, weights) in models.items()},
            evaluations,
            exporter,
            write_report=self._config.report,
            say=self._progress.say,
        )
        return summary

    def _evaluate_personal(self) -> dict[str, Any]:
        """Writes the clients' table; what summary.json has of personal models."""
        if self._personal_evaluator is None:
            return {}
        states = self._client_states
        found = self._personal_evaluator.evaluate(
            self.state,
            self.completed,
            states=None if states is None else states.rows,
            stream=self._stream,
            progress_bar=self._config.progress_bar,
        )
        atomic.write(self._folder.personal_clients_path, found.table())
        for line in found.lines():
            self._progress.say(line)
        return {"personal": found.summary()}

    def say_results(self, stop_reason: str) -> None:
        """Says why the run ended and where everything is."""
        best = self.selection
        found = (
            f"; best {best.column} {best.best_value:.4g} in round {best.best_round}"
            if best.best_value is not None
            else ""
        )
        self._progress.say(
            f"complete after round {self.completed}: {STOP_REASONS[stop_reason]}{found}"
        )
        folder = self._folder
        shown = [folder.metrics_path, folder.export_path, folder.report_path]
        self._progress.say(f"results: {'  '.join(str(p) for p in shown if p.exists())}")

    def say_stopped(self, why: str) -> None:
        """Says, after an interruption, what is kept and how to go on."""
        self._progress.close()
        self._progress.say(
            f"{why} after round {self.completed}; results so far are in "
            f"{self._folder.path}, and the same command resumes after round "
            f"{self._checkpointed}"
        )

    def close(self) -> None:
        """Closes the logs and the progress bar."""
        self._progress.close()
        if self._log is not None:
            self._log.close()
        if self._scalars is not None:
            self._scalars.close()
        if self._client_states is not None:
            self._client_states.close()
