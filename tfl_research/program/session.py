"""One start of a run: the state between rounds, and the open files."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from typing import Any, Optional, TextIO

from tfl_research.errors import UserError
from tfl_research.program.callbacks.base import Callback, Callbacks, Stop
from tfl_research.program.config import RunConfig
from tfl_research.program.each_round import divergence, exclusions
from tfl_research.program.each_round.evaluating import Evaluating
from tfl_research.program.each_round.one_round import Rounds
from tfl_research.program.each_round.round_log import RoundLog
from tfl_research.program.evaluation.candidates import Candidates
from tfl_research.program.evaluation.releases import Releases
from tfl_research.program.interfaces import (
    Account,
    Engine,
    Evaluates,
    EvaluatesPersonal,
    Exporter,
    Sampler,
)
from tfl_research.program.progress import Progress, breakdown_line
from tfl_research.program.recovery import Recovery
from tfl_research.program.reports import RoundReport, RunResult, RunStart
from tfl_research.program.results import finish
from tfl_research.program.results.outcome import Outcome
from tfl_research.program.states import StateOptions
from tfl_research.storage import nest
from tfl_research.storage.client_states import ClientStates
from tfl_research.storage.run_folder import RunFolder


class Session:
    """Restores a run, runs its rounds and writes its results; used by `loop`.

    Attributes:
      state: the process state after the last completed round.
      completed: number of completed rounds, including earlier starts.
    """

    def __init__(
        self,
        task: Any,
        engine: Engine,
        sampler: Sampler,
        folder: RunFolder,
        config: RunConfig,
        *,
        account: Optional[Account],
        evaluator: Evaluates,
        stream: Optional[TextIO],
        client_states: Optional[ClientStates],
        personal_evaluator: Optional[EvaluatesPersonal],
        message_bytes: Optional[tuple[int, int]],
        callbacks: Sequence[Callback],
        releases: Releases,
        states: StateOptions,
    ):
        self._callbacks = Callbacks(callbacks)
        self._engine = engine
        self._rounds = Rounds(
            task.train,
            engine,
            sampler,
            config,
            account,
            client_states,
            message_bytes,
            states.weights_of,
            names_excluded=releases.release.shows(exclusions.NAME),
        )
        self._states = states
        self._folder = folder
        self._config = config
        self._account = account
        self._release = releases.release
        self._write_statement = releases.write_statement
        self._client_states = client_states
        self._personal_evaluator = personal_evaluator
        self._stream = stream
        self._progress = Progress(
            config.rounds,
            stream=stream,
            bar=config.progress_bar,
            print_every=config.print_every,
            release=releases.release,
            private=account is not None,
            budget=None if account is None else account.budget_epsilon,
        )
        self._recovery = Recovery(
            folder,
            config,
            account,
            client_states,
            states.weights_of,
            states.any_shape,
        )
        self._evaluating = Evaluating(
            evaluator, config, task, releases, account, self._progress
        )
        self.state: Any = None
        self.completed = 0
        self._log: Optional[RoundLog] = None
        self._stopped_by: Optional[Stop] = None

    def start(self) -> None:
        """Starts from the last checkpoint or the initial state, and opens the logs.

        Raises:
          UserError: see `program.run`.
        """
        self.state = self._engine.initialize()
        if self._weights is None:
            self._evaluating.without_model()
        checkpoint = self._recovery.load(self.state)
        candidates = self._candidates
        if checkpoint is None:
            if self._folder.resumed and self._folder.has_results():
                self._progress.say(
                    f"{self._folder.path} has results of rounds, but no checkpoint; "
                    "the run starts over with round 1"
                )
            self._evaluating.untrained(self._weights)
        else:
            self.state, self.completed = checkpoint.state, checkpoint.round_number
            try:
                candidates.restore(checkpoint.progress, checkpoint.best)
            except ValueError as error:
                raise UserError(f"{self._folder.path}: {error}") from error
            self._progress.say(self._recovery.how_it_resumes())
        if self._weights is not None:
            self._evaluating.say_undecided()
        # All checks of the start have passed.
        self._folder.accept()
        digests = {} if checkpoint is None else checkpoint.progress.get("rows", {})
        self._log = RoundLog(self._folder, self.completed, self._release, digests)
        if checkpoint is None and self._keeps_initial_state():
            self._save()
        self._callbacks.on_start(
            RunStart(
                self._folder.path,
                self._folder.experiment,
                self._folder.hparams,
                self._config.rounds,
                self.completed,
                self._log.rows,
                self._log.dropped_rounds,
                dict(candidates.untrained),
            )
        )
        self._progress.begin(self.completed)

    @property
    def _candidates(self) -> Candidates:
        return self._evaluating.candidates

    @property
    def _weights(self) -> Any:
        """The model in the state; None if the process trains no model."""
        return self._states.weights_of(self.state)

    def _keeps_initial_state(self) -> bool:
        """Whether a later start could not make the initial state again."""
        kept = self._states.keep_initial_state
        if kept is None:
            kept = not nest.equal(self.state, self._engine.initialize())
        return kept

    def rounds(self) -> Generator[RoundReport, None, str]:
        """Runs rounds until there is a reason to stop; returns the reason.

        Raises:
          TrainingDivergedError: the aggregated model is not finite.
          CallbackError: a callback failed.
          UserError: a round's noise is not the noise of the account's plan.
        """
        reason = self._stop_reason()
        while reason is None:
            number = self.completed + 1
            done = self._rounds.do(number, self.state, self._recovery.last_good())
            if done is None:
                reason = "budget"
                break
            report = self._finish(number, *done)
            reason = report.stop_reason
            yield report
        self.checkpoint()
        return reason

    def _stop_reason(self) -> Optional[str]:
        if self.completed >= self._config.rounds:
            return "rounds"
        if self._candidates.should_stop:
            return "early_stopping"
        if self._rounds.exceeds_budget(self.completed + 1):
            return "budget"
        return None

    def _finish(
        self, round_number: int, state: Any, row: dict[str, Any]
    ) -> RoundReport:
        """Evaluates a round if due, logs it, checkpoints if due, calls callbacks."""
        is_last = round_number == self._config.rounds or self._rounds.exceeds_budget(
            round_number + 1
        )
        last_good = self._recovery.last_good()
        # From here on the row has only released cells.
        row = self._release.row(row)
        cells = self._evaluating.complete(
            row,
            round_number,
            self._states.weights_of(state),
            self._rounds.add_shared,
            is_last=is_last,
        )
        divergence.check_losses(
            round_number, row, self._candidates.untrained, last_good
        )
        measured = self._open_log().append(row, self._rounds.measurements)
        self.state, self.completed = state, round_number
        warning = breakdown_line(row, self._release)
        if warning is not None:
            self._progress.say(warning)
        self._progress.round_done(row, exclusions.words(self._rounds.excluded))
        if self._recovery.is_due(round_number):
            self._save()
        report = RoundReport(
            round_number,
            {name: cell for name, cell in row.items() if cell is not None},
            cells,
            float(row["epsilon"]),
            self._stop_reason(),
            self._weights,
            measured,
        )
        stop = self._callbacks.on_round(report)
        if stop is not None and report.stop_reason is None:
            self._stopped_by = stop
            report = dataclasses.replace(report, stop_reason="callback")
        return report

    def _open_log(self) -> RoundLog:
        if self._log is None:
            raise RuntimeError("call start() first")
        return self._log

    def checkpoint(self) -> None:
        """Writes a checkpoint, unless the last checkpoint has all completed rounds."""
        if self._recovery.round_number != self.completed:
            self._save()

    def _save(self) -> None:
        # The rows come first: a checkpoint needs the rows of its rounds.
        log = self._open_log()
        log.sync()
        self._recovery.save(
            self.completed,
            self.state,
            self._candidates.best,
            {**self._candidates.export(), "rows": log.digests},
        )

    def write_outputs(self, stop_reason: str, exporter: Exporter) -> RunResult:
        """Exports the models and writes summary, clients' table and report."""
        self._progress.close()
        outcome = Outcome(
            self._folder,
            self._config,
            self._candidates,
            self._open_log(),
            completed=self.completed,
            weights=self._weights,
            no_best=self._evaluating.no_best,
            release=self._release,
            say=self._progress.say,
        )
        epsilon = self._candidates.choice_epsilon
        if epsilon is None and stop_reason == "diverged":
            # The round that diverged has no row, and is charged.
            epsilon = self._rounds.epsilon_after(self.completed + 1)
        message = None if self._stopped_by is None else self._stopped_by.reason
        summary = outcome.summary(stop_reason, message, epsilon)
        if stop_reason != "diverged" and self._personal_evaluator is not None:
            states = self._client_states
            summary["personal"] = outcome.evaluate_personal(
                self._personal_evaluator,
                self.state,
                None if states is None else states.rows,
                self._stream,
            )
        outcome.write(summary, exporter, self._write_statement)
        return outcome.result(summary, self.state, epsilon)

    def end(self, result: RunResult) -> None:
        """Prints why the run ended and where the results are, and calls callbacks."""
        column = self._candidates.decided_by
        covered = self._release.covers(column)
        for line in finish.closing_lines(result, column, covered, self._folder):
            self._progress.say(line)
        self._callbacks.on_end(result)

    @property
    def how_to_resume(self) -> str:
        """Words that say where the results are, and after which round a run resumes."""
        return self._recovery.how_to_resume(self.completed)

    def say_stopped(self, why: str) -> None:
        """Prints, after an interruption, where the results are and how to resume."""
        self._progress.close()
        self._progress.say(f"{why} after round {self.completed}; {self.how_to_resume}")

    def close(self, error: Optional[BaseException]) -> None:
        """Closes callbacks, logs and progress bar; `error` is what ended the start."""
        self._progress.close()
        try:
            self._callbacks.on_close(error)
        finally:
            if self._log is not None:
                self._log.close()
            if self._client_states is not None:
                self._client_states.close()
