"""One start of a run, as a generator of its rounds; errors are explained at its end."""

from __future__ import annotations

import functools
from collections.abc import Generator, Sequence
from typing import Any, Optional, TextIO

from tfl_research import interrupts
from tfl_research.errors import RunInterrupted, TrainingDivergedError, UserError
from tfl_research.outputs import Release
from tfl_research.program.callbacks.base import Callback, CallbackError
from tfl_research.program.config import RunConfig
from tfl_research.program.evaluation.releases import Releases
from tfl_research.program.interfaces import (
    Account,
    Engine,
    Evaluates,
    EvaluatesPersonal,
    Exporter,
    Sampler,
)
from tfl_research.program.reports import RoundReport, RunResult
from tfl_research.program.session import Session
from tfl_research.program.states import StateOptions
from tfl_research.storage.client_states import ClientStates, ClientStateSpec
from tfl_research.storage.run_folder import RunFolder

Steps = Generator[RoundReport, None, RunResult]


def steps(
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
    releases: Optional[Releases],
    state_options: StateOptions,
    signals: interrupts.Signals,
) -> Steps:
    """Runs one start of a run, one round at each step.

    Args:
      task: this and the further arguments are those of `program.run`.
      state_options: the argument `states` of `program.run`.
      signals: tells which signal an exception is about.
    """
    states = None
    if client_states is not None:
        states = ClientStates(folder.client_states_path, client_states)
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
            states=None if states is None else states.rows,
            separately=config.evaluate_separately,
        )
    if exporter is None:
        from tfl_research.program.results.export import check_export, export_model

        if config.export:
            check_export(task)
        exporter = functools.partial(export_model, task)
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
        releases=releases or Releases(Release(is_private=account is not None)),
        states=state_options,
    )
    ended_by: Optional[BaseException] = None
    try:
        try:
            result = yield from _until_the_end(session, exporter)
        except BaseException as error:
            ended_by = _saved_and_explained(session, signals.cause_of(error))
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


def _saved_and_explained(session: Session, error: BaseException) -> BaseException:
    """Saves completed rounds if possible, and returns the error for the caller."""
    if isinstance(error, (interrupts.Interrupt, KeyboardInterrupt)):
        session.say_stopped(f"interrupted by {str(error) or 'SIGINT'}")
        interrupted = (
            RunInterrupted(error.number)
            if isinstance(error, interrupts.Interrupt)
            else RunInterrupted()
        )
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
