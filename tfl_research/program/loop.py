"""The round loop, for callers and as an iterator of rounds."""

from __future__ import annotations

import functools
from collections.abc import Generator, Sequence
from typing import Any, Optional, TextIO

from tfl_research.errors import RunInterrupted, TrainingDivergedError, UserError
from tfl_research.program import interrupts
from tfl_research.program.callbacks.base import Callback, CallbackError
from tfl_research.program.config import RunConfig
from tfl_research.program.interfaces import (
    Account,
    Engine,
    Evaluates,
    EvaluatesPersonal,
    Exporter,
    Plan,
    Sampler,
)
from tfl_research.program.plan_check import check_plans
from tfl_research.program.reports import RoundReport, RunResult
from tfl_research.program.session import Session
from tfl_research.storage.client_states import ClientStates, ClientStateSpec
from tfl_research.storage.run_folder import RunFolder

Steps = Generator[RoundReport, None, RunResult]


def run(
    *,
    task: Any,
    engine: Engine,
    sampler: Sampler,
    folder: RunFolder,
    config: RunConfig,
    account: Optional[Account] = None,
    process_plan: Optional[Plan] = None,
    client_states: Optional[ClientStateSpec] = None,
    message_bytes: Optional[tuple[int, int]] = None,
    evaluator: Optional[Evaluates] = None,
    personal_evaluator: Optional[EvaluatesPersonal] = None,
    exporter: Optional[Exporter] = None,
    callbacks: Sequence[Callback] = (),
    stream: Optional[TextIO] = None,
) -> RunResult:
    """Runs, or resumes, the rounds of an experiment and writes its results.

    A round r (from 1) is: the budget is checked, the cohort sampled, the round
    charged to the account (durably, before anything that was computed with its
    noise exists), the process run, its measured noise compared with the plan, the
    result evaluated when due, logged, and checkpointed when due. A run that is killed
    anywhere and started again repeats the rounds after its last checkpoint, with the
    same cohorts and the same noise, and ends with the same files as a run that was
    never stopped.

    Runs in any thread, also beside other runs. Only the main thread handles signals.

    Args:
      task: a `tasks.Task`.
      engine: executes the process; its states have `global_model_weights` with
        `trainable` and `non_trainable` (`LearningAlgorithmState`).
      sampler: gives each round's client ids.
      folder: the run's folder, opened with `RunFolder.open`.
      config: length, evaluation, checkpoints and output.
      account: charges rounds to a privacy budget; None when nothing is private,
        and then ε is infinite.
      process_plan: the privacy plan that the process was built from; None for a
        process without a plan.
      client_states: what clients keep between rounds (`process.client_states`); the
        table is a file in the run's folder. None where clients keep nothing.
      message_bytes: what a client is sent in a round, and what it sends back, for the
        columns `bytes_down` and `bytes_up`; None for no such columns. A sampler of
        simulated devices has them itself.
      evaluator: evaluates models; `program.Evaluator(task)` by default.
      personal_evaluator: evaluates clients' personal models once the rounds are done;
        None for no such evaluation.
      exporter: writes a model, (weights, path); `program.export_model` by default.
      callbacks: see each round and may stop the run, in this order
        (`program.TensorBoard()`).
      stream: where progress is printed; standard output by default.

    Raises:
      UserError: the folder's checkpoint or ledger does not fit, the selection metric
        is not among the evaluation's, the process was not built from the account's
        plan, or a round's noise is not the noise of the plan.
      CallbackError: a callback failed.
      TrainingDivergedError: the aggregated model is not finite.
      RunInterrupted: SIGINT or SIGTERM (a SystemExit with code 130).
    """
    check_plans(account, process_plan)
    steps = _steps(
        task,
        engine,
        sampler,
        folder,
        config,
        account,
        client_states,
        message_bytes,
        evaluator,
        personal_evaluator,
        exporter,
        callbacks,
        stream,
    )
    with interrupts.raised_on_signals():
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value
            except interrupts.Interrupt as error:
                _interrupt(steps, error)


def rounds(
    *,
    task: Any,
    engine: Engine,
    sampler: Sampler,
    folder: RunFolder,
    config: RunConfig,
    account: Optional[Account] = None,
    process_plan: Optional[Plan] = None,
    client_states: Optional[ClientStateSpec] = None,
    message_bytes: Optional[tuple[int, int]] = None,
    evaluator: Optional[Evaluates] = None,
    personal_evaluator: Optional[EvaluatesPersonal] = None,
    exporter: Optional[Exporter] = None,
    callbacks: Sequence[Callback] = (),
    stream: Optional[TextIO] = None,
) -> Steps:
    """A generator of the rounds of an experiment, for a loop of one's own.

    Does what `run` does, a round at each step. Between two steps signals do what they
    did before. When the loop is left early, the generator's `close` writes a
    checkpoint of the rounds so far and closes the files; the same call goes on from
    there, with the same results as a run that was never stopped. Python closes a
    generator when nothing refers to it any more; `contextlib.closing` closes it at
    the end of a block, whatever happens there.

    Example:

        with contextlib.closing(program.rounds(...)) as reports:
            for report in reports:
                if report.epsilon > 4:
                    break

    Args:
      task, engine, sampler, folder, config, account, process_plan, client_states,
        message_bytes, evaluator, personal_evaluator, exporter, callbacks, stream: see
        `run`.

    Returns:
      The generator; it yields a `RoundReport` after each round, and returns the
      `RunResult` (`result = yield from program.rounds(...)`).

    Raises:
      UserError: the process was not built from the account's plan. The generator
        raises what else `run` raises.
    """
    check_plans(account, process_plan)
    steps = _steps(
        task,
        engine,
        sampler,
        folder,
        config,
        account,
        client_states,
        message_bytes,
        evaluator,
        personal_evaluator,
        exporter,
        callbacks,
        stream,
    )
    return _with_signals(steps)


def _with_signals(steps: Steps) -> Steps:
    """Handles signals while a round is computed, and not in the caller's own code."""
    try:
        while True:
            try:
                with interrupts.raised_on_signals():
                    report = next(steps)
            except StopIteration as end:
                return end.value
            except interrupts.Interrupt as error:
                _interrupt(steps, error)
            else:
                yield report
    finally:
        steps.close()


def _interrupt(steps: Steps, error: interrupts.Interrupt) -> None:
    """Ends the run after a signal that came between two rounds."""
    try:
        steps.throw(error)
    except interrupts.Interrupt:
        raise RunInterrupted() from None


def _steps(
    task: Any,
    engine: Engine,
    sampler: Sampler,
    folder: RunFolder,
    config: RunConfig,
    account: Optional[Account],
    client_states: Optional[ClientStateSpec],
    message_bytes: Optional[tuple[int, int]],
    evaluator: Optional[Evaluates],
    personal_evaluator: Optional[EvaluatesPersonal],
    exporter: Optional[Exporter],
    callbacks: Sequence[Callback],
    stream: Optional[TextIO],
) -> Steps:
    """One start of the run, a round at each step; see `run`."""
    if evaluator is None:
        from tfl_research.program.evaluation.evaluator import (
            Evaluator,  # imports TensorFlow
        )

        evaluator = Evaluator(
            task,
            batch_size=config.evaluation_batch_size,
            max_examples=config.max_evaluation_examples,
            seed=config.seed,
            client_weights=config.client_weights,
        )
    if exporter is None:
        from tfl_research.program.export import export_model

        exporter = functools.partial(export_model, task)
    states = None
    if client_states is not None:
        states = ClientStates(folder.client_states_path, client_states)
    session = Session(
        task,
        engine,
        sampler,
        folder,
        config,
        account=account,
        evaluator=evaluator,
        stream=stream,
        client_states=states,
        personal_evaluator=personal_evaluator,
        message_bytes=message_bytes,
        callbacks=callbacks,
    )
    ended_by: Optional[BaseException] = None
    try:
        try:
            result = yield from _until_the_end(session, exporter)
        except BaseException as error:
            ended_by = _explained(session, error)
            if ended_by is error:
                raise
            raise ended_by from error.__cause__
    finally:
        session.close(ended_by)
    return result


def _until_the_end(session: Session, exporter: Exporter) -> Steps:
    session.start()
    try:
        stop_reason = yield from session.rounds()
    except TrainingDivergedError:
        session.write_outputs("diverged", exporter)
        raise
    result = session.write_outputs(stop_reason, exporter)
    session.end(result)
    return result


def _explained(session: Session, error: BaseException) -> BaseException:
    """Keeps what is done where that is possible; the error that the caller sees."""
    if isinstance(error, (interrupts.Interrupt, KeyboardInterrupt)):
        session.say_stopped(f"interrupted by {str(error) or 'SIGINT'}")
        interrupted = RunInterrupted()
        interrupted.__cause__ = None
        return interrupted
    if isinstance(error, GeneratorExit):
        session.checkpoint()
        session.say_stopped("stopped by its caller")
    elif isinstance(error, CallbackError):
        session.checkpoint()
        failed = CallbackError(f"{error.for_command_line}; {session.how_to_resume}")
        return failed.with_traceback(error.__traceback__)
    elif isinstance(error, Exception) and not isinstance(error, UserError):
        session.say_stopped(f"stopped by an error ({type(error).__name__})")
    return error
