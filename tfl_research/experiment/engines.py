"""The engine of a run, and how it executes rounds: kept in the run's folder.

With another way of executing, a resumed run would round differently.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tfl_research.errors import UserError
from tfl_research.experiment.configs import Runtime
from tfl_research.storage import RunFolder, kept_choice

if TYPE_CHECKING:
    import tensorflow_federated as tff

    from tfl_research.runtime import Engine

_FILE = "runtime.json"


def build(
    settings: Runtime, process: tff.templates.IterativeProcess, folder: RunFolder
) -> Engine:
    """An engine for the process. Imports TensorFlow.

    The choice of execution and the number of parts or chunks are kept in the run's
    folder before the first round uses them. A private run needs them: rounds that are
    repeated in another way have the same noise on sums that differ by rounding.

    Raises:
      UserError: the remembered choice cannot be read, or a private run has lost the
        choice, or the runtime cannot execute the process.
    """
    from tfl_research import runtime

    try:
        if settings.runtime == "tff":
            return runtime.tff_local(
                process,
                answer_seconds=settings.worker_timeout,
                open_port=settings.open_worker_port,
            )
        if settings.runtime == "remote":
            return _remote(settings, process, folder)
        return _in_process(settings, process, folder)
    except runtime.UnsupportedProcess as error:
        raise UserError(f"--runtime={settings.runtime}: {error}") from error


@contextlib.contextmanager
def worker_failures(settings: Runtime) -> Iterator[None]:
    """Raises UserError for failures of TFF's workers inside the block.

    Imports TensorFlow.
    """
    from tfl_research import runtime

    resumes = "then give the same command again: the run goes on from its checkpoint"
    try:
        yield
    except runtime.NotIsolated as error:
        raise UserError(
            f"--runtime={settings.runtime}: {error}; give --runtime=in_process if the "
            "process allows it, or accept the risk with --open_worker_port"
        ) from error
    except runtime.WorkerUnavailable as error:
        if settings.runtime != "remote":
            raise UserError(
                f"--runtime={settings.runtime}: {error}; free the machine, {resumes}"
            ) from error
        raise UserError(
            f"--workers={settings.workers}: {error}; start one there with "
            f"scripts/worker --port=PORT, {resumes}"
        ) from error


def _remote(
    settings: Runtime, process: tff.templates.IterativeProcess, folder: RunFolder
) -> Engine:
    from tfl_research import runtime

    path, key = folder.path / _FILE, folder.choice_key
    if folder.plan is not None and folder.has_results() and not path.exists():
        raise UserError(
            f"{path} is missing, so nobody knows how the run divided its sums; "
            "restore the file, or choose another --output_dir"
        )
    engine = runtime.remote(
        process,
        settings.addresses(),
        parts=kept_choice.kept(path, _parts, key),
        answer_seconds=settings.worker_timeout,
        on_change=_warn,
    )
    kept_choice.keep(path, {"parts": engine.parts}, key)
    return engine


def _in_process(
    settings: Runtime, process: tff.templates.IterativeProcess, folder: RunFolder
) -> Engine:
    from tfl_research import runtime

    mode = None
    if settings.client_execution != "auto":
        mode = runtime.Mode(*settings.client_execution.split("_"))
    return runtime.in_process(
        process,
        mode=mode,
        chunk_size=settings.chunk_clients,
        accelerator=settings.accelerator,
        choice_file=folder.path / _FILE,
        choice_key=folder.choice_key,
        choice_made=folder.plan is not None and folder.has_results(),
        answer_seconds=settings.worker_timeout,
        open_port=settings.open_worker_port,
    )


def _warn(text: str) -> None:
    sys.stderr.write(f"warning: {text}\n")


def _parts(record: dict[str, Any]) -> int:
    return int(record["parts"])
