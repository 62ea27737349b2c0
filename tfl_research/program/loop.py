"""The round loop: `run` for a whole run, `rounds` for one round at a time."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NoReturn, Optional, TextIO

from tfl_research import interrupts
from tfl_research.errors import RunInterrupted
from tfl_research.program import one_start
from tfl_research.program.callbacks.base import Callback
from tfl_research.program.config import RunConfig
from tfl_research.program.evaluation.releases import Releases
from tfl_research.program.interfaces import (
    Account,
    Engine,
    Evaluates,
    EvaluatesPersonal,
    Exporter,
    Plan,
    Sampler,
)
from tfl_research.program.one_start import Steps
from tfl_research.program.plan_check import check_plans
from tfl_research.program.reports import RunResult
from tfl_research.program.states import StateOptions
from tfl_research.storage.client_states import ClientStateSpec
from tfl_research.storage.run_folder import RunFolder


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
    releases: Optional[Releases] = None,
    states: StateOptions = StateOptions(),  # noqa: B008
) -> RunResult:
    """Runs, or resumes, the rounds of an experiment and writes its results.

    A round, numbered from 1, has these steps: check the budget; sample the cohort;
    charge the round to the account, durably and before anything is computed with the
    round's noise; run the process; compare the measured noise with the plan; evaluate
    the model if an evaluation is due; log the round; write a checkpoint if one is due.

    A run that is killed and started again repeats the rounds after its last checkpoint,
    with the same cohorts and the same noise. It ends with the same files as a run that
    was never stopped, if its engine executes rounds in the same mode. An engine of
    `runtime.in_process` without a mode chooses the mode by measuring. With
    `choice_file=folder.path / "runtime.json"` the engine measures in the first start
    only, and keeps the mode in this file, as `Experiment.run` does.

    `run` works in any thread, also while other runs are running. Only the main thread
    handles signals.

    Args:
      task: a `tasks.Task`.
      engine: executes the process. If the states have `global_model_weights`, with
        `trainable` and `non_trainable` (`LearningAlgorithmState`), the model is
        evaluated and exported.
      sampler: draws the client ids of each round.
      folder: the run folder, opened with `RunFolder.open`.
      config: length, evaluation, checkpoints and output.
      account: charges rounds to a privacy budget. None for a run without privacy, whose
        ε is infinite.
      process_plan: the privacy plan that the process was built from; None for a
        process without a plan.
      client_states: the state that each client keeps between rounds
        (`process.client_states`), stored in a file in the run folder. None if clients
        keep no state.
      message_bytes: bytes to a client and from a client in a round, for the columns
        `bytes_down` and `bytes_up`; None without such columns. A sampler of simulated
        devices gives these columns itself.
      evaluator: evaluates models; `program.Evaluator(task)` by default.
      personal_evaluator: evaluates clients' personal models after the last round;
        None without such an evaluation.
      exporter: (weights, path) -> None, writes a model; `program.export_model` by
        default.
      callbacks: callbacks that see each round and may stop the run, such as
        `program.TensorBoard()`; they are called in this order.
      stream: where progress is printed; standard output by default.
      releases: which outputs are released. By default all outputs are released, and a
        run with an account marks the outputs that ε does not cover.
      states: says which part of a state is the model, and whether the initial state is
        kept as a checkpoint. By default the initial state is made twice. If the two
        differ, as random initial weights without a seed do, the state is kept.

    Raises:
      UserError: the checkpoint or the ledger does not fit the run, the evaluation does
        not have the selection metric, the process was not built from the account's
        plan, or a round's noise is not the noise of the plan.
      CallbackError: a callback failed.
      TrainingDivergedError: the aggregated model is not finite.
      RunInterrupted: SIGINT or SIGTERM (a SystemExit with code 130 or 143).
    """
    check_plans(account, process_plan)
    signals = interrupts.Signals()
    steps = one_start.steps(
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
        releases,
        states,
        signals,
    )
    try:
        with interrupts.raised_on_signals(signals):
            while True:
                next(steps)
                signals.check()
    except StopIteration as end:
        return end.value
    except interrupts.Interrupt as error:
        # An interruption also replaces an error outside of the session.
        _interrupt(steps, error, folder, stream)


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
    releases: Optional[Releases] = None,
    states: StateOptions = StateOptions(),  # noqa: B008
) -> Steps:
    """Runs the rounds of an experiment one at a time, for your own loop.

    The generator does what `run` does, one round at each step. Between two steps the
    caller's signal handlers are in place. When the caller leaves the loop early, the
    generator's `close` writes a checkpoint of the completed rounds and closes the
    files. A later call with the same arguments continues from the checkpoint, with the
    same results as a run that was never stopped. Python closes a generator when nothing
    refers to it. `contextlib.closing` closes the generator at the end of a block, also
    after an exception.

    Example:

        with contextlib.closing(program.rounds(...)) as reports:
            for report in reports:
                if report.epsilon > 4:
                    break

    Args:
      task: this and all further arguments are the same as for `run`.

    Returns:
      The generator; it yields a `RoundReport` after each round, and returns the
      `RunResult` (`result = yield from program.rounds(...)`).

    Raises:
      UserError: the process was not built from the account's plan. The generator
        raises the other exceptions of `run`.
    """
    check_plans(account, process_plan)
    signals = interrupts.Signals()
    steps = one_start.steps(
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
        releases,
        states,
        signals,
    )
    return _with_signals(steps, signals, folder, stream)


def _with_signals(
    steps: Steps,
    signals: interrupts.Signals,
    folder: RunFolder,
    stream: Optional[TextIO],
) -> Steps:
    """Handles signals while a round is computed, but not in the caller's code."""
    try:
        while True:
            try:
                with interrupts.raised_on_signals(signals):
                    report = next(steps)
                    signals.check()
            except StopIteration as end:
                return end.value
            except interrupts.Interrupt as error:
                _interrupt(steps, error, folder, stream)
            else:
                yield report
    finally:
        steps.close()


def _interrupt(
    steps: Steps,
    error: interrupts.Interrupt,
    folder: RunFolder,
    stream: Optional[TextIO],
) -> NoReturn:
    """Ends the run after a signal between two rounds, or outside of its session."""
    try:
        steps.throw(error)
    except interrupts.Interrupt:
        # Steps did not handle the signal: no session has begun, or it has ended.
        out = sys.stdout if stream is None else stream
        out.write(
            f"interrupted by {error}; the same command continues the run in "
            f"{folder.path}\n"
        )
        out.flush()
    raise RunInterrupted(error.number) from None
