"""A run of a process: its folder, account, engine and rounds."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Optional, TextIO, Union

from tfl_research import program, runtime
from tfl_research.errors import SettingError, UserError
from tfl_research.experiment import engines
from tfl_research.experiment.own_process import declared, noise
from tfl_research.experiment.own_process.client_values import ProcessClients
from tfl_research.experiment.own_process.prepared import Prepared, prepare
from tfl_research.experiment.own_process.result import ProcessResult
from tfl_research.experiment.private.statement_file import kept_up_to_date
from tfl_research.program.evaluation.releases import Releases
from tfl_research.program.states import NoEvaluation
from tfl_research.runtime.engine import ClosedOnExit
from tfl_research.runtime.graphs.structures import leaf_types
from tfl_research.storage import RunFolder, nest, provenance, run_folder, run_record
from tfl_research.storage.fingerprint import Fingerprint, digest

if TYPE_CHECKING:
    from tfl_research.experiment.own_process.process_experiment import (
        ProcessExperiment,
    )
    from tfl_research.program import RoundReport, RunResult

Folder = Union[str, os.PathLike[str]]
# Lines of TensorFlow's messages that name no fault.
_FRAMES = re.compile(
    r"(Graph execution error|Detected at node|<stack traces|File |Traceback|\[\["
    r"|The op is created|in user code|\^)"
)


@dataclasses.dataclass(frozen=True)
class _Clients:
    """In the place of a task: whom a run trains, and what picks its best model."""

    train: ProcessClients
    selection_metric: Optional[str]
    name: str = "process"
    non_trainable: Optional[str] = None


def run(
    experiment: ProcessExperiment,
    folder: Folder,
    *,
    resume: bool,
    recharge: bool,
    stream: Optional[TextIO],
) -> ProcessResult:
    """See `ProcessExperiment.run`."""
    with _opened(experiment, folder, resume, recharge, stream) as arguments:
        return _result(experiment, arguments, program.run(**arguments))


def rounds(
    experiment: ProcessExperiment,
    folder: Folder,
    *,
    resume: bool,
    recharge: bool,
    stream: Optional[TextIO],
) -> Generator[RoundReport, None, ProcessResult]:
    """See `ProcessExperiment.rounds`."""
    with _opened(experiment, folder, resume, recharge, stream) as arguments:
        ended = yield from program.rounds(**arguments)
        return _result(experiment, arguments, ended)


def _result(
    experiment: ProcessExperiment, arguments: dict[str, Any], ended: RunResult
) -> ProcessResult:
    weights = arguments["states"].weights_of(ended.state)
    if weights is ended.state:
        weights = None
    return ProcessResult(experiment, ended, weights)


@contextlib.contextmanager
def _opened(
    experiment: ProcessExperiment,
    path: Folder,
    resume: bool,
    recharge: bool,
    stream: Optional[TextIO],
) -> Iterator[dict[str, Any]]:
    run_folder.check_path(path)
    prepared = prepare(experiment)
    if recharge and (prepared.plan is None or prepared.is_repeatable):
        raise SettingError(
            "--recharge: goes with declared noise that the process draws anew at every "
            "execution; leave it out"
        )
    out, training, form = stream or sys.stdout, prepared.training, prepared.form
    fingerprint = _fingerprint(prepared)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(
            RunFolder.open(
                path,
                prepared.hparams(),
                experiment=experiment.name,
                resume=resume,
                run_seed=None if training.run_seed is None else int(training.run_seed),
                plan=None if prepared.plan is None else prepared.plan.record(),
            )
        )
        account = stack.enter_context(declared.opened_account(prepared, folder, out))
        declared.check_start(
            prepared, folder, account, fingerprint, out, recharge=recharge
        )
        built = engines.build(experiment.runtime, form.process, folder)
        engine = stack.enter_context(_Explained(built))
        write = declared.statement_writer(prepared, folder, account)
        if write is not None and account is not None:
            stack.enter_context(
                kept_up_to_date(folder.privacy_path, account.ledger, write)
            )
        callbacks = list(experiment.callbacks)
        if training.tensorboard:
            callbacks.insert(0, program.TensorBoard())
        has_model = prepared.exporter.has_model
        by_state = not has_model and prepared.evaluator is not None
        selection = "loss" if experiment.test is not None else None
        yield {
            "task": _Clients(prepared.clients, selection),
            "engine": engine,
            "process_plan": prepared.plan,
            "sampler": declared.secret_cohorts(prepared, folder),
            "folder": folder,
            "config": training.config(),
            "account": account,
            "evaluator": prepared.evaluator or NoEvaluation(),
            "exporter": prepared.exporter,
            "callbacks": callbacks,
            "releases": Releases(prepared.release(), write_statement=write),
            "stream": stream,
            "states": program.StateOptions(
                weights_of=_whole if by_state else form.weights_of,
                any_shape=_open_shapes(engine, prepared),
                keep_initial_state=True,
            ),
        }


class _Explained(ClosedOnExit):
    """An engine whose errors are one line with the round's clients."""

    def __init__(self, engine: Any):
        self._engine = engine

    def initialize(self) -> Any:
        """See `Engine.initialize`."""
        return self._engine.initialize()

    def next(self, state: Any, cohort: Any) -> tuple[Any, Any]:
        """See `Engine.next`.

        Raises:
          UserError: the process failed.
        """
        try:
            new, metrics = self._engine.next(state, cohort)
        except (UserError, SystemExit, KeyboardInterrupt):
            raise
        except Exception as error:
            raise UserError(
                f"process: a round of {len(cohort)} clients failed "
                f"({type(error).__name__}: {_cause(error)}); tfl.Runtime('tff') "
                "executes it as TFF does"
            ) from error
        return new, metrics

    def close(self) -> None:
        """See `Engine.close`."""
        self._engine.close()


def _cause(error: Exception) -> str:
    """The line of an error's message that says the most."""
    text = str(error)
    # TFF's worker reports by gRPC.
    details = re.search(r'details = "(.*?)"\n', text, re.DOTALL)
    if details is not None:
        text = details.group(1)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if not _FRAMES.match(line)]
    return (telling or lines or ["no message"])[0][:300]


def _whole(state: Any) -> Any:
    """A state without a model, for a function that evaluates states."""
    return state


def _open_shapes(engine: Any, prepared: Prepared) -> frozenset[str]:
    """Paths of the state's leaves whose shape the type leaves open."""
    types = leaf_types(prepared.form.state_type)
    open_leaves = [
        each.shape is None or any(size is None for size in each.shape) for each in types
    ]
    if not any(open_leaves):
        return frozenset()
    paths = [path for path, _ in nest.flatten(engine.initialize())]
    return frozenset(path for path, is_open in zip(paths, open_leaves) if is_open)


def _fingerprint(prepared: Prepared) -> Fingerprint:
    """What a start is compared by with the first one.

    Where noise must not be used on anything else, that is the whole computation, the
    data and the packages.
    """
    process = prepared.form.process
    if prepared.plan is None or not prepared.is_repeatable:
        return Fingerprint(noise.loose_digest(process), data=prepared.ids_digest())
    digests = dict(runtime.computation_digests(process))
    # The state is in a checkpoint from the beginning.
    digests.pop("initial_state", None)
    return Fingerprint(
        digests,
        data=digest([prepared.ids_digest(), _data_digest(prepared)]),
        plan=digest(run_record.plain("plan", prepared.plan.record())),
        execution=digest(provenance.numeric_environment()),
        packages=provenance.package_versions(),
    )


def _data_digest(prepared: Prepared) -> str:
    clients = prepared.clients
    if clients.client_type is None:
        return ""
    if not clients.is_enumerable:
        raise SettingError(
            "clients: noise by a seed must never be used on other data, and the values "
            "of a function cannot all be compared; give a mapping from ids to values, "
            "or ProcessPrivacy(repeatable=False), so that every execution is charged"
        )
    return clients.digest()
