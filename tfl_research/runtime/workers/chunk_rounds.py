"""Rounds whose chunks of clients are compiled programs on several workers."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Optional

import grpc
import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.data import Cohort
from tfl_research.errors import UserError
from tfl_research.runtime.compiler import chunks
from tfl_research.runtime.compiler.chunk_execution import GRAPH, in_graph
from tfl_research.runtime.compiler.map_reduce import MapReduce
from tfl_research.runtime.compiler.mode import Mode
from tfl_research.runtime.compiler.worker_program import (
    WorkerProgram,
    worker_program,
)
from tfl_research.runtime.engine import ClientValues
from tfl_research.runtime.graphs.structures import member_names
from tfl_research.runtime.rounds import accumulators, failures
from tfl_research.runtime.rounds.client_chunks import chunks_of_cohort
from tfl_research.runtime.workers.connection import NoAnswer
from tfl_research.runtime.workers.context import compiled
from tfl_research.runtime.workers.example_files import ExampleFiles
from tfl_research.runtime.workers.pool import WorkerPool
from tfl_research.runtime.workers.reading import Reader, file_error
from tfl_research.runtime.workers.session import Call, Session


class ChunkRounds:
    """Executes the programs of `in_process`; the workers execute the chunks' programs.

    The driver computes what the server sends to clients and sends it to each worker
    once a round. The chunks' accumulators come back, and the driver combines them in
    the order of the chunks and computes the server's part.

    Args:
      programs: the programs of the process, whose clients have no datasets.
      pool: the workers.
      parts: number of chunks of a cohort; more if one chunk would take too much memory.
      files: the folder from which workers read examples; None ships the examples.
      warn: called once with the reason, if XLA does not compile the chunks.
    """

    def __init__(
        self,
        programs: MapReduce,
        pool: WorkerPool,
        parts: int,
        files: Optional[ExampleFiles],
        warn: Callable[[str], None],
    ):
        self._programs, self._pool, self._parts = programs, pool, parts
        self._files, self._warn = files, warn
        self._shapes = chunks.Shapes()
        # A computation that several workers execute is compiled once.
        compile_once = functools.lru_cache(maxsize=None)(compiled)
        # A job makes these values: context, clients, both together, and the result;
        # with files, also their names.
        values = 4 if files is None else 5
        self._sessions = [
            Session(w.ready_stub, values, compile_once) for w in pool.workers
        ]
        self._worker_programs: dict[Mode, WorkerProgram] = {}
        self._lock = threading.Lock()
        self._has_warned = False
        self._reader: Optional[Reader] = None

    @property
    def reads_files(self) -> bool:
        """Whether workers read clients' examples from a folder."""
        return self._files is not None

    def chunks(self, cohort: ClientValues) -> Iterator[Callable[[], chunks.Chunk]]:
        """Returns functions that gather a cohort's chunks here, in a fixed order."""
        return chunks_of_cohort(
            cohort, self._programs, parallel=self._parts, shapes=self._shapes
        )

    def next(self, leaves: list[tf.Tensor], cohort: ClientValues, mode: Mode) -> Any:
        """Executes a round in a mode; returns leaves of new state and metrics."""
        programs = self._programs
        with failures.at_server():
            context = programs.start(mode)(leaves)
        jobs = [
            functools.partial(self._accumulated, context, chunk, mode)
            for chunk in self._remote_chunks(cohort)
        ]
        parts = (
            [tf.convert_to_tensor(value) for value in part]
            for part in self._pool.each(jobs)
        )
        return accumulators.result(programs, mode, leaves, parts)

    def _remote_chunks(self, cohort: ClientValues) -> Iterator[_RemoteChunk]:
        files = self._files
        if files is None:
            for gather in self.chunks(cohort):
                yield _RemoteChunk(gather)
            return
        if not isinstance(cohort, Cohort):
            raise UserError(
                "a list of clients' values has no examples that workers could read "
                "from a folder; give a cohort of ClientData, or leave the folder out"
            )
        names = member_names(self._programs.client_type)
        if self._reader is None:
            self._reader = Reader(names, self._programs.layout.specs, files.specs)
        division = chunks.divide(cohort, parallel=self._parts, shapes=self._shapes)
        for group, shape in zip(division.groups, division.shapes):
            yield _RemoteChunk(
                functools.partial(chunks.gather, cohort, group, shape, names),
                self._reader,
                self._reader.argument(cohort.select(group), files, shape),
            )

    def _accumulated(
        self,
        context: Sequence[tf.Tensor],
        chunk: _RemoteChunk,
        mode: Mode,
        index: int,
    ) -> list[np.ndarray]:
        """Lets the worker number `index` compute a chunk's accumulator."""
        try:
            results = self._compute(context, chunk, mode, index)
        except NoAnswer:
            raise
        except grpc.RpcError as error:
            worker = self._pool.workers[index]
            # Raises if the worker is lost.
            worker.ready_stub()
            wrong = chunk.file_error(_details(error), worker.address)
            if wrong is not None:
                raise wrong from error
            if mode == GRAPH:
                raise self._failure(context, chunk, worker.address, error) from error
            results = self._accumulated(context, chunk, GRAPH, index)
            self._tell(f"the worker at {worker.address}: {_details(error)}")
            return results
        if mode.compiler == "graph":
            return results
        # TensorFlow fails on bad values, but XLA computes something from them.
        *accumulator, violated = results
        if not violated:
            return accumulator
        return self._accumulated(context, chunk, GRAPH, index)

    def _compute(
        self, context: Sequence[tf.Tensor], chunk: _RemoteChunk, mode: Mode, index: int
    ) -> list[np.ndarray]:
        program = self._program(mode)

        def job(call: Call) -> list[np.ndarray]:
            sent = [*map(np.asarray, context)]
            given = [
                call.value(sent, program.context_type),
                chunk.value(call, program.leaves_type),
            ]
            result = call.apply(program.computation, call.struct(given))
            return [np.asarray(leaf) for leaf in call.fetched(result)]

        return self._sessions[index].run(job)

    def _program(self, mode: Mode) -> WorkerProgram:
        with self._lock:
            if mode not in self._worker_programs:
                self._worker_programs[mode] = worker_program(self._programs, mode)
            return self._worker_programs[mode]

    def _failure(
        self,
        context: Sequence[tf.Tensor],
        chunk: _RemoteChunk,
        address: str,
        error: Exception,
    ) -> UserError:
        """Makes the error of a chunk that a worker cannot compute; names the client."""
        gathered = chunk.gather()
        try:
            in_graph(self._programs, context, gathered)
        except tf.errors.OpError as own:
            return failures.named(self._programs, context, gathered, own)
        return UserError(f"the worker at {address}: {_details(error)}")

    def _tell(self, reason: str) -> None:
        with self._lock:
            has_warned, self._has_warned = self._has_warned, True
        if not has_warned:
            self._warn(f"{reason}; TensorFlow's executor executes such clients")

    def close(self) -> None:
        """Releases the computations and values that the workers keep."""
        for session in self._sessions:
            session.close()


@dataclasses.dataclass
class _RemoteChunk:
    """Some clients of a cohort, whose examples are shipped or read from files.

    Attributes:
      gather: makes the chunk here.
      reader: reads the examples on a worker; None ships the examples.
      argument: the reader's argument.
    """

    gather: Callable[[], chunks.Chunk]
    reader: Optional[Reader] = None
    argument: Sequence[Any] = ()

    def value(self, call: Call, leaves_type: tff.Type) -> Any:
        """Makes the worker's value of the leaves and the number of clients."""
        if self.reader is None:
            chunk = self.gather()
            return call.value([*chunk.leaves, np.int32(chunk.count)], leaves_type)
        given = call.value(self.argument, self.reader.argument_type)
        return call.apply(self.reader.computation, given)

    def file_error(self, message: str, address: str) -> Optional[UserError]:
        """Returns the file error that a worker's message is about, or None."""
        if self.reader is None:
            return None
        return file_error(message, address, list(self.argument[0]))


def _details(error: Exception) -> str:
    text = error.details() if isinstance(error, grpc.Call) else error
    return failures.in_one_line(str(text))
