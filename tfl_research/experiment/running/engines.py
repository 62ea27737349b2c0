"""Builds the engine of a run, and keeps in the run's folder how it executes rounds.

If a resumed run executed rounds in another way, its results would round differently.
"""

from __future__ import annotations

import contextlib
import pathlib
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Optional, TextIO

from tfl_research.errors import UserError
from tfl_research.experiment.configs import Runtime
from tfl_research.program import progress
from tfl_research.storage import RunFolder
from tfl_research.storage.files import user_paths

if TYPE_CHECKING:
    import tensorflow_federated as tff

    from tfl_research.data import ClientData
    from tfl_research.runtime import Engine, Mode

_FILE = "runtime.json"
# Set if this process only runs experiments.
_is_ours = threading.Event()


def take_process() -> None:
    """Declares that this process only runs experiments, as a binary does.

    Runs may then choose TensorFlow's number of threads for an operation, which is fixed
    for a process.
    """
    _is_ours.set()


def build(
    settings: Runtime,
    process: tff.templates.IterativeProcess,
    folder: RunFolder,
    clients: Optional[ClientData] = None,
) -> Engine:
    """Builds an engine for the process; imports TensorFlow.

    The choice of execution and the number of parts or chunks are kept in the run's
    folder before the first round uses them. A private run needs this record: if a round
    were repeated in another way, the same noise would be added to a sum that differs by
    rounding.

    Args:
      settings: the runtime settings of the run.
      process: the process to execute.
      folder: the folder of the run.
      clients: the clients whose examples workers may read from a folder; None for
        values that are in no `ClientData`.

    Raises:
      UserError: the recorded choice cannot be read, a private run has lost the record,
        or the runtime cannot execute the process.
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
            return _remote(settings, process, folder, clients)
        return _in_process(settings, process, folder)
    except runtime.UnsupportedProcess as error:
        raise UserError(f"--runtime={settings.runtime}: {error}") from error


def use_devices(
    settings: Runtime,
    out: TextIO,
    folder: pathlib.Path,
    clients: Optional[float] = None,
) -> None:
    """Makes TensorFlow use the GPUs and the threads that the settings ask for.

    This imports TensorFlow, which must not have executed any operation before.

    Args:
      settings: the runtime settings of the run.
      out: prints which GPUs are used.
      folder: the folder of the run, whose earlier rounds decide about the threads.
      clients: the expected number of clients of a round. None if it is not known yet,
        or if the server does much of a round's work; a new run then keeps TensorFlow's
        number of threads.

    Raises:
      UserError: TensorFlow finds no GPU, or has started with another number of threads
        than the given number; or TensorFlow makes no functions, or only graphs.
    """
    from tfl_research import runtime

    _check_execution()
    cards = runtime.prepare(
        settings.accelerator, operation_threads=settings.operation_threads
    )
    _use_threads(settings, folder, clients)
    if cards:
        progress.stage(out)
        out.write(f"clients' work runs on {', '.join(cards)}\n")


def _check_execution() -> None:
    """Checks that TensorFlow executes operations at once, and functions as graphs.

    Raises:
      UserError: the caller has changed this.
    """
    import tensorflow as tf

    if not tf.executing_eagerly():
        raise UserError(
            "TensorFlow only makes graphs here, and executes nothing; start the "
            "experiment outside of a tf.Graph, and leave out "
            "tf.compat.v1.disable_eager_execution()"
        )
    if tf.config.functions_run_eagerly():
        raise UserError(
            "TensorFlow makes no graphs of functions, so no round can be compiled; "
            "give tf.config.run_functions_eagerly(False)"
        )


def _use_threads(
    settings: Runtime, folder: pathlib.Path, clients: Optional[float]
) -> None:
    """Chooses the number of threads of an operation, if TensorFlow has not started.

    In a user's own process, the number changes only if the run's earlier rounds need
    another number, since the user may compute something else there. The engine refuses
    a run whose earlier rounds had another number.
    """
    from tfl_research.runtime import cores, kept_execution

    if settings.runtime != "in_process" or settings.operation_threads is not None:
        return
    threads = kept_execution.operation_threads(folder / _FILE)
    # Sites execute clients separately, and have few clients in a round.
    may_choose = settings.accelerator == "none" and not settings.separately
    # If the run's file has no number, earlier rounds used TensorFlow's number.
    is_new = not (folder / _FILE).exists()
    if is_new and clients is not None and may_choose and _is_ours.is_set():
        threads = cores.threads_for_rounds(clients)
    if threads is not None:
        cores.set_operation_threads(threads)


@contextlib.contextmanager
def worker_failures(settings: Runtime) -> Iterator[None]:
    """Turns failures of TFF's workers inside the block into UserError.

    This imports TensorFlow.

    Raises:
      UserError: a worker failed; the message says what to do.
    """
    from tfl_research import runtime

    resumes = "then give the same command again: the run continues from its checkpoint"
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
    settings: Runtime,
    process: tff.templates.IterativeProcess,
    folder: RunFolder,
    clients: Optional[ClientData],
) -> Engine:
    from tfl_research import runtime

    path = folder.path / _FILE
    if folder.plan is not None and folder.has_results() and not path.exists():
        raise UserError(
            f"{path} is missing, so it is not known how the run divided its sums; "
            "restore the file, or choose another --output_dir"
        )
    data = None
    if settings.worker_data is not None:
        if clients is None:
            raise settings.refused(
                "worker_data", "the run's clients hold values of its own process"
            )
        data = user_paths.expanded(settings.worker_data).absolute()
    return runtime.remote(
        process,
        settings.addresses(),
        mode=_mode(settings),
        data_folder=data,
        clients=clients,
        worker_cores=settings.worker_cores,
        choice_file=path,
        choice_key=folder.choice_key,
        answer_seconds=settings.worker_timeout,
        on_change=_warn,
    )


def _mode(settings: Runtime) -> Optional[Mode]:
    from tfl_research import runtime

    if settings.client_execution == "auto":
        return None
    return runtime.Mode(*settings.client_execution.split("_"))


def _in_process(
    settings: Runtime, process: tff.templates.IterativeProcess, folder: RunFolder
) -> Engine:
    from tfl_research import runtime

    return runtime.in_process(
        process,
        mode=_mode(settings),
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
