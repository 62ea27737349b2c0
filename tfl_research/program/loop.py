"""The round loop."""

from __future__ import annotations

import functools
from typing import Any, Optional, TextIO

from tfl_research.errors import RunInterrupted, TrainingDivergedError, UserError
from tfl_research.program import interrupts
from tfl_research.program.config import RunConfig, RunResult
from tfl_research.program.interfaces import (
    Account,
    Engine,
    Evaluates,
    EvaluatesPersonal,
    Exporter,
    Sampler,
)
from tfl_research.program.session import Session
from tfl_research.storage.client_states import ClientStates, ClientStateSpec
from tfl_research.storage.run_folder import RunFolder


def run(
    *,
    task: Any,
    engine: Engine,
    sampler: Sampler,
    folder: RunFolder,
    config: RunConfig,
    account: Optional[Account] = None,
    client_states: Optional[ClientStateSpec] = None,
    message_bytes: Optional[tuple[int, int]] = None,
    evaluator: Optional[Evaluates] = None,
    personal_evaluator: Optional[EvaluatesPersonal] = None,
    exporter: Optional[Exporter] = None,
    stream: Optional[TextIO] = None,
) -> RunResult:
    """Runs, or resumes, the rounds of an experiment and writes its results.

    A round r (from 1) is: the budget is checked, the cohort sampled, the round
    charged to the account (durably, before anything that was computed with its
    noise exists), the process run, the result evaluated when due, logged, and
    checkpointed when due. A run that is killed anywhere and started again repeats
    the rounds after its last checkpoint, with the same cohorts and the same noise,
    and ends with the same files as one that was never stopped.

    Args:
      task: a `tasks.Task`.
      engine: executes the process; its states have `global_model_weights` with
        `trainable` and `non_trainable` (`LearningAlgorithmState`).
      sampler: gives each round's client ids.
      folder: the run's folder, opened with `RunFolder.open`.
      config: length, evaluation, checkpoints and output.
      account: charges rounds to a privacy budget; None when nothing is private,
        and then ε is infinite.
      client_states: what clients keep between rounds (`process.client_states`); the
        table is a file in the run's folder. None where clients keep nothing.
      message_bytes: what a client is sent in a round, and what it sends back, for the
        columns `bytes_down` and `bytes_up`; None for no such columns. A sampler of
        simulated devices has them itself.
      evaluator: evaluates models; `program.Evaluator(task)` by default.
      personal_evaluator: evaluates clients' personal models once the rounds are done;
        None for no such evaluation.
      exporter: writes a model, (weights, path); `program.export_model` by default.
      stream: where progress is printed; standard output by default.

    Raises:
      UserError: the folder's checkpoint or ledger does not fit, or the selection
        metric is not among the evaluation's.
      TrainingDivergedError: the aggregated model is not finite.
      RunInterrupted: SIGINT or SIGTERM (a SystemExit with code 130).
    """
    if evaluator is None:
        from tfl_research.program.evaluation import Evaluator  # imports TensorFlow

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
        account,
        evaluator,
        stream,
        states,
        personal_evaluator,
        message_bytes,
    )
    try:
        with interrupts.raised_on_signals():
            session.restore()
            try:
                stop_reason = session.rounds()
            except TrainingDivergedError:
                session.write_outputs("diverged", exporter)
                raise
            summary = session.write_outputs(stop_reason, exporter)
            session.say_results(stop_reason)
    except (interrupts.Interrupt, KeyboardInterrupt) as error:
        session.say_stopped(f"interrupted by {str(error) or 'SIGINT'}")
        raise RunInterrupted() from None
    except UserError:
        raise
    except Exception as error:
        session.say_stopped(f"stopped by an error ({type(error).__name__})")
        raise
    finally:
        session.close()
    return RunResult(
        session.completed,
        stop_reason,
        session.state,
        session.selection.best_round,
        session.selection.best_value,
        summary,
        folder.path,
    )
