"""Executes rounds on several TFF workers; each computes a part of the cohort."""

from __future__ import annotations

import collections
import dataclasses
import logging
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import interrupts
from tfl_research.data import ClientData
from tfl_research.runtime.compiler import choice
from tfl_research.runtime.compiler.map_reduce import MapReduce
from tfl_research.runtime.compiler.mode import Mode
from tfl_research.runtime.compiler.xla import set_flags
from tfl_research.runtime.conversion.process_forms import UnsupportedProcess
from tfl_research.runtime.engine import ClientValues, ClosedOnExit
from tfl_research.runtime.explanation import examine
from tfl_research.runtime.graphs import process_shape
from tfl_research.runtime.graphs.structures import pack, tensors
from tfl_research.runtime.kept_execution import Division, KeptDivision
from tfl_research.runtime.placement import NONE, placement
from tfl_research.runtime.tracing.interpreter import CannotTrace
from tfl_research.runtime.workers.chunk_rounds import ChunkRounds
from tfl_research.runtime.workers.connection import ANSWER_SECONDS
from tfl_research.runtime.workers.example_files import ExampleFiles
from tfl_research.runtime.workers.federated_rounds import FederatedRounds
from tfl_research.runtime.workers.pool import WorkerPool
from tfl_research.runtime.workers.remote_worker import RemoteWorker

CONNECT_SECONDS = 10.0
_LOG = logging.getLogger(__name__)


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=2)


class RemoteEngine(ClosedOnExit):
    """Executes a process on several TFF workers, which `scripts/worker` starts.

    The cohort is divided into parts. Each worker takes one part after another and
    accumulates it. The accumulators are merged in the order of the parts. So the result
    of a round depends on the number of parts, but not on the speed of the workers. When
    a worker is lost in a round, the engine warns and does not use this worker in the
    rest of the round. The other workers repeat the lost worker's part. The engine uses
    the worker again when the worker answers.

    If `in_process` can execute a process, the same compiled programs execute it here:
    the workers execute the clients' programs, and this process executes the server's
    programs. TFF's runtime on the workers executes all other processes.

    The model and clients' data cross the network in plain text and without
    authentication. (Clients' examples do not cross it if workers read them from a
    folder.) This engine is for simulation between machines that trust each other.

    Attributes:
      parts: number of parts of a cohort; fewer if the cohort has fewer clients, and
        more if a part would take too much memory.
      mode: how the clients of a part are executed; None until the first round chooses
        a mode, and where TFF's runtime executes them.
    """

    def __init__(
        self,
        process: tff.templates.IterativeProcess,
        addresses: Sequence[str],
        *,
        parts: Optional[int] = None,
        mode: Optional[Mode] = None,
        data_folder: Optional[pathlib.Path] = None,
        clients: Optional[ClientData] = None,
        worker_cores: int = 1,
        choice_file: Optional[pathlib.Path] = None,
        choice_key: bytes = b"",
        connect_seconds: Optional[float] = None,
        answer_seconds: float = ANSWER_SECONDS,
        on_change: Callable[[str], None] = _warn,
    ):
        if not addresses:
            raise ValueError("addresses must name at least one worker, got none")
        repeated = [a for a, n in collections.Counter(addresses).items() if n > 1]
        if repeated:
            raise ValueError(f"every worker must be named once, got {repeated} again")
        for name, number in (("parts", parts), ("worker_cores", worker_cores)):
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        if data_folder is not None and clients is None:
            raise ValueError(
                f"data_folder={data_folder} needs clients, whose examples are written "
                "there"
            )
        self._keep = KeptDivision(choice_file, choice_key)
        kept = self._keep.read()
        self._process = process
        programs, reason = _programs(process, kept)
        if programs is None and (data_folder is not None or mode is not None):
            what = f"mode {mode}" if data_folder is None else f"data in {data_folder}"
            raise UnsupportedProcess(f"{what}: {reason}; leave it out")
        if programs is not None and mode is not None:
            refused = choice.refusals(programs, mode)
            if refused or mode.clients == "separate":
                why = (refused or ["workers compute several clients at once"])[0]
                raise UnsupportedProcess(f"mode {mode}: {why}; leave it out")
        at_once, is_new = len(addresses) * worker_cores, kept is None
        if kept is None:
            number = at_once if parts is None else parts
            kept = Division(number, "tff" if programs is None else "chunks", mode)
        elif kept.parts < at_once:
            on_change(
                f"the run began with cohorts of {kept.parts} parts and keeps this "
                f"number ({choice_file}), so its workers compute {kept.parts} parts at "
                f"the same time, not {at_once}"
            )
        self.parts, self.mode = kept.parts, kept.mode or mode
        self._division, self._programs = kept, programs
        # The server's part stays on the CPU of this machine.
        self._placement = placement(NONE)
        set_flags()
        seconds = CONNECT_SECONDS if connect_seconds is None else connect_seconds
        workers = [RemoteWorker(a, seconds, answer_seconds) for a in addresses]
        self._pool = WorkerPool(workers, worker_cores, on_change)
        self._chunked: Optional[ChunkRounds] = None
        self._federated: Optional[FederatedRounds] = None
        try:
            # Without workers, no files and no number of parts are written.
            if data_folder is not None or (is_new and choice_file is not None):
                self._pool.require()
            if is_new:
                self._keep.write(dataclasses.replace(kept, reason=reason))
            if programs is None:
                self._federated = FederatedRounds(process, self._pool, self.parts)
                return
            files = None
            if data_folder is not None and clients is not None:
                files = ExampleFiles(data_folder, clients.specs)
                files.prepare(clients)
            self._chunked = ChunkRounds(
                programs, self._pool, self.parts, files, _LOG.warning
            )
        except BaseException:
            self._pool.close()
            raise

    def initialize(self) -> Any:
        """Returns the initial server state; leaves are NumPy arrays or tensors.

        Raises:
          WorkerUnavailable: none of the workers answers.
        """
        if self._federated is not None:
            return self._federated.initialize()
        if self._programs is None:
            raise ValueError("the engine is closed")
        self._pool.require()
        try:
            with self._placement.server():
                leaves = self._programs.initialize.run()
        except CannotTrace as error:
            return self._give_up(error).initialize()
        return pack(iter(leaves), self._process.initialize.type_signature.result)

    def next(self, state: Any, cohort: ClientValues) -> tuple[Any, Any]:
        """Executes a round; returns (new state, metrics).

        Args:
          state: the state from `initialize` or from an earlier round, of any engine.
          cohort: a cohort of the toolkit, or a list with one value per client of
            the type that the process takes; may be empty.

        Raises:
          WorkerUnavailable: none of the workers answers any more.
          UserError: a client's computation fails, or a worker cannot read the client's
            file; the message names the client, or the worker and the file.
        """
        if self._federated is not None:
            return self._federated.next(state, cohort)
        rounds, programs = self._chunked, self._programs
        if rounds is None or programs is None:
            raise ValueError("the engine is closed")
        try:
            with self._placement.server():
                leaves = tensors(state, process_shape.parameters(self._process)[0])
                mode = self.mode or self._chosen(programs, rounds, leaves, cohort)
                programs.build(mode)
                output = rounds.next(leaves, cohort, mode)
        except CannotTrace as error:
            return self._give_up(error).next(state, cohort)
        packed = pack(iter(output), self._process.next.type_signature.result)
        return process_shape.split(packed, self._process)

    def _chosen(
        self,
        programs: MapReduce,
        rounds: ChunkRounds,
        leaves: Sequence[tf.Tensor],
        cohort: ClientValues,
    ) -> Mode:
        """Chooses the mode by measuring here, and keeps it before a round uses it."""
        try:
            mode, reason, _ = choice.choose(
                programs, leaves, rounds.chunks(cohort), cohort_size=len(cohort)
            )
        except tf.errors.InvalidArgumentError:
            interrupts.check()
            # The round fails on the same client, and names the client.
            return Mode("folded", "graph")
        self.mode = mode
        self._keep.write(dataclasses.replace(self._division, mode=mode, reason=reason))
        return mode

    def _give_up(self, error: CannotTrace) -> FederatedRounds:
        """From now on, executes the clients by TFF's runtime on the workers."""
        if self.mode is not None or self._chunked is None or self._chunked.reads_files:
            raise UnsupportedProcess(
                f"the compiled programs cannot hold this process: {error}"
            ) from error
        _LOG.warning("TFF's runtime on the workers executes this process: %s", error)
        self._federated = FederatedRounds(self._process, self._pool, self.parts)
        self._keep.write(Division(self.parts, "tff", None, str(error)))
        return self._federated

    def close(self) -> None:
        """Closes the connections; the workers keep running."""
        if self._chunked is not None:
            self._chunked.close()
            self._chunked = None
        self._pool.close()
        if self._federated is not None:
            self._federated.close()


def _programs(
    process: tff.templates.IterativeProcess, kept: Optional[Division]
) -> tuple[Optional[MapReduce], str]:
    """Returns the compiled programs, or None and the reason for TFF's runtime."""
    if kept is not None and kept.by == "tff":
        return None, kept.reason or "earlier rounds were executed by TFF's runtime"
    programs, explanation = examine(process)
    if programs is None:
        return None, explanation.reason
    if programs.layout.has_sequences:
        return None, "its clients hold datasets"
    return programs, ""


def remote(
    process: tff.templates.IterativeProcess,
    addresses: Sequence[str],
    *,
    parts: Optional[int] = None,
    mode: Optional[Mode] = None,
    data_folder: Optional[pathlib.Path] = None,
    clients: Optional[ClientData] = None,
    worker_cores: int = 1,
    choice_file: Optional[pathlib.Path] = None,
    choice_key: bytes = b"",
    connect_seconds: Optional[float] = None,
    answer_seconds: float = ANSWER_SECONDS,
    on_change: Callable[[str], None] = _warn,
) -> RemoteEngine:
    """Makes an engine that divides rounds of `process` among TFF workers.

    Args:
      process: any `tff.templates.IterativeProcess` whose round has one aggregation.
        Several aggregations count as one if none depends on another's result.
      addresses: "host:port" of each worker.
      parts: number of parts of a cohort; by default the number of workers times
        `worker_cores`. With the same number of parts, a round gives the same result to
        the last bit.
      mode: how the clients of a part are executed, but not "separate". By default the
        first round measures here which mode is fastest.
      data_folder: a folder that all machines reach by this path. This call writes the
        missing examples of `clients` to the folder, and workers read them there. None
        sends the examples to the workers.
      clients: the clients whose examples are written to `data_folder`.
      worker_cores: how many parts a worker computes at the same time.
      choice_file: path of a file that keeps `parts` and `mode` for later engines of
        the same run. Values in the file take precedence over the arguments. None
        keeps nothing.
      choice_key: a secret key; with a key, a choice file that was edited is refused.
      connect_seconds: seconds to wait for a worker's first answer, by default 10.
      answer_seconds: while a worker computes, the engine asks it short questions. A
        worker that has answered none for so many seconds is lost.
      on_change: called with a sentence when a worker is lost or answers again, or when
        a run keeps fewer parts than its workers could compute at the same time; by
        default a warning.

    Raises:
      UnsupportedProcess: the process' cohort cannot be divided, or workers cannot
        read its clients' examples from a folder.
      WorkerUnavailable: none of the workers answers, and something would be written.
      UserError: a file in `data_folder` is damaged or cannot be written, or the choice
        file cannot be read.
      ValueError: there is no address, or an address is given twice.
    """
    return RemoteEngine(
        process,
        addresses,
        parts=parts,
        mode=mode,
        data_folder=data_folder,
        clients=clients,
        worker_cores=worker_cores,
        choice_file=choice_file,
        choice_key=choice_key,
        connect_seconds=connect_seconds,
        answer_seconds=answer_seconds,
        on_change=on_change,
    )
