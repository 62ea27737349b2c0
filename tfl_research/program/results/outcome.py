"""The outcome of a run: the best model, and the files about the run's models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional, TextIO

from tfl_research.errors import EvaluationUnavailable
from tfl_research.outputs import Release
from tfl_research.program.config import RunConfig
from tfl_research.program.each_round import exclusions
from tfl_research.program.each_round.round_log import RoundLog
from tfl_research.program.evaluation.candidates import Candidates
from tfl_research.program.evaluation.client_metrics import Evaluation
from tfl_research.program.interfaces import EvaluatesPersonal, Exporter
from tfl_research.program.reports import RunResult
from tfl_research.program.results import finish
from tfl_research.storage.files import atomic
from tfl_research.storage.run_folder import RunFolder


class Outcome:
    """Picks the best model of a run that ended, and writes the run's results.

    Args:
      folder: the run's folder.
      config: the run's settings.
      candidates: the candidates for the best model.
      log: the rows of all rounds.
      completed: number of completed rounds.
      weights: weights of the model after the completed rounds; None if the process
        trains no model.
      no_best: why there can be no best model; None if there can be a best model.
      release: which outputs the run may show.
      say: prints a line.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: RunConfig,
        candidates: Candidates,
        log: RoundLog,
        *,
        completed: int,
        weights: Any,
        no_best: Optional[str],
        release: Release,
        say: Callable[[str], None],
    ):
        self._folder, self._config, self._log = folder, config, log
        self._candidates, self._no_best = candidates, no_best
        self._completed, self._weights = completed, weights
        self._release, self._say = release, say
        self._evaluations: Mapping[tuple[str, str], Evaluation] = {}
        self._best_round = candidates.choose(completed)
        decides = candidates.choice is not None or candidates.selection is not None
        if decides and self._best_round is None and completed:
            say(f"no best model: {candidates.why_no_best}")

    def summary(
        self,
        stop_reason: str,
        stop_message: Optional[str],
        epsilon: Optional[float],
    ) -> dict[str, Any]:
        """Makes the content of summary.json, without personal models.

        Args:
          stop_reason, stop_message, epsilon: see `finish.summarize`.
        """
        candidates = self._candidates
        summary = finish.summarize(
            self._log.rows,
            completed_rounds=self._completed,
            planned_rounds=self._config.rounds,
            stop_reason=stop_reason,
            stop_message=stop_message,
            untrained=candidates.untrained,
            selection_column=candidates.decided_by,
            best_round=self._best_round,
            best_value=candidates.best_value,
            no_best=self._no_best or candidates.why_no_best,
            epsilon=epsilon,
        )
        excluded = exclusions.totals(self._log.measured())
        if excluded:
            summary["excluded"] = excluded
            covered = self._release.covers(exclusions.NAME)
            self._say(finish.excluded_line(excluded, covered=covered))
        return summary

    def evaluate_personal(
        self,
        evaluator: EvaluatesPersonal,
        state: Any,
        states: Optional[Callable[[Sequence[str]], Any]],
        stream: Optional[TextIO],
    ) -> dict[str, Any]:
        """Writes the clients' table; returns summary.json's part on personal models.

        Args:
          evaluator: evaluates the clients' models.
          state, states: see `EvaluatesPersonal.evaluate`.
          stream: where progress is printed; None for standard output.
        """
        evaluation = evaluator.evaluate(
            state,
            self._completed,
            states=states,
            stream=stream,
            progress_bar=self._config.progress_bar,
        )
        atomic.write(self._folder.personal_clients_path, evaluation.table())
        for line in evaluation.lines():
            self._say(line)
        return evaluation.summary()

    def write(
        self,
        summary: dict[str, Any],
        exporter: Exporter,
        write_statement: Optional[Callable[[], None]],
    ) -> None:
        """Exports and evaluates the models, and writes summary, table and report.

        Args:
          summary: the content of summary.json.
          exporter, write_statement: see `finish.write_outputs`.
        """
        models = {}
        if self._weights is not None:
            models["final"] = (self._completed, self._weights)
        if self._best_round is not None:
            models["best"] = (self._best_round, self._candidates.best)
        try:
            self._evaluations = self._candidates.evaluations(models)
        except EvaluationUnavailable as error:
            self._say(f"the exported models are not evaluated: {error}")
        finish.write_outputs(
            self._folder,
            summary,
            {name: weights for name, (_, weights) in models.items()},
            self._evaluations,
            exporter,
            write_models=self._config.export,
            write_report=self._config.report,
            write_statement=write_statement,
            say=self._say,
        )

    def result(
        self, summary: dict[str, Any], state: Any, epsilon: Optional[float]
    ) -> RunResult:
        """Makes the result of the run.

        Args:
          summary: the content of summary.json.
          state: the process state after the last completed round.
          epsilon: ε of the run; None if the last row has it.
        """
        rows = self._log.rows
        if epsilon is None:
            epsilon = float(rows[-1]["epsilon"]) if rows else 0.0
        return RunResult(
            self._completed,
            summary["stop_reason"],
            state,
            self._best_round,
            self._candidates.best_value,
            summary,
            self._folder.path,
            epsilon=epsilon,
            evaluations=self._evaluations,
            metrics_csv=self._folder.metrics_path.read_text(encoding="utf-8"),
            stop_message=summary.get("stop_message"),
        )
