"""Runs a user's process: opens its folder, account and engine, and runs rounds."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Optional, TextIO, Union

from tfl_research import program, runtime
from tfl_research.errors import SettingError
from tfl_research.experiment import changed_settings
from tfl_research.experiment.own_process import declared, noise
from tfl_research.experiment.own_process.client_digest import ValuesDigest
from tfl_research.experiment.own_process.client_values import ProcessClients
from tfl_research.experiment.own_process.explained import ExplainedEngine
from tfl_research.experiment.own_process.prepared import Prepared, prepare
from tfl_research.experiment.own_process.result import ProcessResult
from tfl_research.experiment.private.statement_file import kept_up_to_date
from tfl_research.experiment.running import engines
from tfl_research.program.evaluation.releases import Releases
from tfl_research.program.states import NoEvaluation
from tfl_research.runtime.graphs.structures import leaf_types
from tfl_research.storage import RunFolder, folder_check, nest, provenance, run_record
from tfl_research.storage.files import user_paths
from tfl_research.storage.fingerprint import Fingerprint, digest

if TYPE_CHECKING:
    from tfl_research.experiment.own_process.process_experiment import (
        ProcessExperiment,
    )
    from tfl_research.program import RoundReport, RunResult

Folder = Union[str, os.PathLike[str]]


@dataclasses.dataclass(frozen=True)
class _Clients:
    """The clients and the selection metric of a run that has no task."""

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
    """Runs the process, or continues the run that the folder holds."""
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
    """Runs the process one round at a time; see `Experiment.rounds`."""
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
    folder_check.check_path(path)
    out = stream or sys.stdout
    engines.use_devices(experiment.runtime, out, user_paths.expanded(path))
    prepared = prepare(experiment)
    if recharge and (prepared.plan is None or prepared.is_repeatable):
        raise SettingError(
            "--recharge: goes with declared noise that the process draws anew at "
            "every execution; leave --recharge out"
        )
    training, form = prepared.training, prepared.form
    values = prepared.values_digest()
    fingerprint = _fingerprint(prepared, values)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(
            RunFolder.open(
                path,
                prepared.hparams(values),
                experiment=experiment.name,
                resume=resume,
                run_seed=None if training.run_seed is None else int(training.run_seed),
                plan=None if prepared.plan is None else prepared.plan.record(),
                changed_from=changed_settings.of_parts(
                    prepared.cohort_settings,
                    training,
                    experiment.release,
                    experiment.runtime,
                ),
            )
        )
        if values is not None and values.varying is not None:
            out.write(f"{_varying_line(values)}\n")
        account = stack.enter_context(declared.opened_account(prepared, folder, out))
        declared.check_start(
            prepared, folder, account, fingerprint, out, recharge=recharge
        )
        stack.enter_context(engines.worker_failures(experiment.runtime))
        built = engines.build(experiment.runtime, form.process, folder)
        engine = stack.enter_context(
            ExplainedEngine(built, finds_client=prepared.plan is None)
        )
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
        yield {
            "task": _Clients(prepared.clients, prepared.selection_metric),
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


def _whole(state: Any) -> Any:
    """Returns the whole state, for a function that evaluates states without a model."""
    return state


def _open_shapes(engine: Any, prepared: Prepared) -> frozenset[str]:
    """Returns the paths of the state's leaves whose type does not fix the shape."""
    types = leaf_types(prepared.form.state_type)
    open_leaves = [
        each.shape is None or any(size is None for size in each.shape) for each in types
    ]
    if not any(open_leaves):
        return frozenset()
    paths = [path for path, _ in nest.flatten(engine.initialize())]
    return frozenset(path for path, is_open in zip(paths, open_leaves) if is_open)


def _fingerprint(prepared: Prepared, values: Optional[ValuesDigest]) -> Fingerprint:
    """Computes the digests by which a start is compared with the first start.

    If the same noise must not be added to another sum, the digests cover the whole
    computation, the data and the packages.
    """
    process = prepared.form.process
    data = prepared.ids_digest()
    if prepared.plan is not None:
        data = digest([data, "" if values is None else values.sha256])
    if prepared.plan is None or not prepared.is_repeatable:
        return Fingerprint(noise.loose_digest(process), data=data)
    digests = dict(runtime.computation_digests(process))
    # A checkpoint has the initial state from the beginning.
    digests.pop("initial_state", None)
    return Fingerprint(
        digests,
        data=data,
        plan=digest(run_record.plain("plan", prepared.plan.record())),
        execution=digest(provenance.numeric_environment()),
        packages=provenance.package_versions(),
    )


def _varying_line(values: ValuesDigest) -> str:
    """Returns a line that says that a later start cannot compare the clients."""
    more = values.number_varying - 1
    others = f" (and {more} other clients)" if more else ""
    return (
        f"{values.varying}{others}; so a resumed run has other data, which are not "
        "compared with the data before"
    )
