"""Rounds whose clients are executed by compiled programs in this Python process."""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Optional

import tensorflow as tf

from tfl_research.data import Cohort
from tfl_research.runtime import cores
from tfl_research.runtime.compiler.chunk_execution import run_chunk
from tfl_research.runtime.compiler.chunks import Chunk, Shapes
from tfl_research.runtime.compiler.map_reduce import MapReduce
from tfl_research.runtime.compiler.mode import Mode
from tfl_research.runtime.compiler.xla import CannotCompile
from tfl_research.runtime.engine import ClientValues
from tfl_research.runtime.placement import Placement
from tfl_research.runtime.rounds import accumulators, failures
from tfl_research.runtime.rounds.client_chunks import chunks_of_cohort
from tfl_research.runtime.rounds.separate import SeparateClients


class LocalRounds:
    """Executes rounds of a process; threads compute chunks at the same time.

    Args:
      programs: the programs of the process.
      placement: the devices that execute the programs.
      parallel: number of chunks that are computed at the same time.
      chunk_size: number of clients in a chunk; None bounds it by memory.
      one_by_one: see `chunks.Shapes`.
      not_compiled: called with the reason if XLA does not compile a chunk.

    Attributes:
      has_compiled: whether the program of the clients has executed a chunk.
    """

    def __init__(
        self,
        programs: MapReduce,
        placement: Placement,
        *,
        parallel: int,
        chunk_size: Optional[int],
        one_by_one: bool,
        not_compiled: Callable[[CannotCompile], None],
    ):
        self._programs, self._placement = programs, placement
        self._parallel, self._chunk_size = parallel, chunk_size
        self._shapes = Shapes(programs.shapes, one_by_one=one_by_one)
        self._not_compiled = not_compiled
        self._pool: Optional[concurrent.futures.ThreadPoolExecutor] = None
        self._separate: Optional[SeparateClients] = None
        self._is_built = self.has_compiled = False

    def chunks(self, cohort: ClientValues) -> Iterator[Callable[[], Chunk]]:
        """Yields functions that make the chunks of a cohort, in a fixed order."""
        return chunks_of_cohort(
            cohort,
            self._programs,
            chunk_size=self._chunk_size,
            parallel=self._parallel,
            shapes=self._shapes,
        )

    def fills_cores(self, cohort: ClientValues) -> bool:
        """Whether the round is known to have as many chunks as are computed at once."""
        if not self._is_divided_first(cohort):
            return False
        chunks_at_once = itertools.islice(self.chunks(cohort), self._parallel)
        return len(list(chunks_at_once)) == self._parallel > 1

    def _is_divided_first(self, cohort: ClientValues) -> bool:
        """Whether the chunks of a cohort are known before its examples are read."""
        return isinstance(cohort, Cohort) and not self._programs.layout.has_sequences

    def build(self, mode: Mode, cohort: ClientValues) -> None:
        """Builds the programs of a round, in the first call only.

        Raises:
          CannotTrace: TensorFlow cannot build them.
        """
        if not self._is_built:
            self._programs.build(mode, self._num_accumulators(mode, cohort))
            self._is_built = True

    def _num_accumulators(self, mode: Mode, cohort: ClientValues) -> int:
        """Returns how many accumulators a round's finishing program takes.

        The number is known before the round, so that only one program is traced. The
        chunks of a list of values are not known before the list is read.
        """
        if not self._is_divided_first(cohort) or mode.clients == "separate":
            return 1
        chunks = itertools.islice(self.chunks(cohort), accumulators.MOST)
        return max(1, len(list(chunks)))

    def next(
        self, state: Sequence[tf.Tensor], cohort: ClientValues, mode: Mode
    ) -> list[tf.Tensor]:
        """Executes a round; returns the leaves of the new state and of the metrics.

        Args:
          state: the leaves of the server's state.
          cohort: a cohort of the toolkit, or a list with one value for each client.
          mode: how clients are executed.

        Raises:
          CannotTrace: TensorFlow cannot build the programs.
          ValueError: a client's value does not have the process' type.
          UserError: the computation of a client or of the server fails.
        """
        self.build(mode, cohort)
        if mode.clients == "separate":
            return self._next_separately(state, cohort, mode)
        return self._next_by_chunks(state, cohort, mode)

    def _next_by_chunks(
        self, state: Sequence[tf.Tensor], cohort: ClientValues, mode: Mode
    ) -> list[tf.Tensor]:
        with failures.at_server():
            context = self._programs.start(mode)(state)

        def compute(job: tuple[int, Callable[[], Chunk]]) -> list[tf.Tensor]:
            index, make = job
            chunk = make()
            try:
                with self._placement.clients(index):
                    part = run_chunk(
                        self._programs, mode, context, chunk, self._not_compiled
                    )
                return self._placement.to_server(part)
            except tf.errors.InvalidArgumentError as error:
                raise failures.named(self._programs, context, chunk, error) from error

        parts = self._in_order(compute, enumerate(self.chunks(cohort)))
        return accumulators.result(self._programs, mode, state, parts)

    def _next_separately(
        self, state: Sequence[tf.Tensor], cohort: ClientValues, mode: Mode
    ) -> list[tf.Tensor]:
        if self._separate is None:
            self._separate = SeparateClients(self._programs, mode.compiler)
        clients = self._separate
        context = clients.context(state)
        if isinstance(cohort, Cohort):
            jobs: Iterator[Callable[[], Chunk]] = (
                functools.partial(clients.chunk, cohort, index)
                for index in range(len(cohort))
            )
        else:
            jobs = chunks_of_cohort(
                cohort,
                self._programs,
                chunk_size=1,
                parallel=1,
                shapes=self._shapes,
            )
        reports = self._in_order(lambda make: clients.report(context, make()), jobs)
        return clients.result(state, clients.total(reports))

    def _in_order(self, compute: Any, jobs: Iterator[Any]) -> Iterator[Any]:
        """Yields results in the jobs' order; at most `parallel` jobs run at once."""
        if self._parallel == 1:
            yield from map(compute, jobs)
            return
        if self._pool is None:
            self._pool = concurrent.futures.ThreadPoolExecutor(self._parallel)
        if not self.has_compiled:
            # The first job runs alone, since it compiles. If one thread fails to
            # compile while another thread traces, both can wait for each other.
            for job in itertools.islice(jobs, 1):
                yield compute(job)
            self.has_compiled = True
        yield from cores.in_order(compute, jobs, self._pool, self._parallel)

    def close(self) -> None:
        """Ends the threads; compiled programs remain for other engines."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
