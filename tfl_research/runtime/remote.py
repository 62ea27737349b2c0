"""Executes rounds on several TFF workers; each computes a part of the cohort."""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Optional

import tensorflow_federated as tff

from tfl_research.runtime.client_values import client_values
from tfl_research.runtime.compiler.conversion import UnsupportedProcess
from tfl_research.runtime.engine import ClientValues, ClosedOnExit
from tfl_research.runtime.graphs.structures import flatten, pack
from tfl_research.runtime.workers.connection import ANSWER_SECONDS
from tfl_research.runtime.workers.context import WorkerContext, compiled
from tfl_research.runtime.workers.remote_worker import RemoteWorker, WorkerUnavailable

CONNECT_SECONDS = 10.0


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=2)


class RemoteEngine(ClosedOnExit):
    """Executes a process on several TFF workers, which `scripts/worker` starts.

    The cohort is divided into consecutive parts. Each worker takes one part after
    another and accumulates it (`tff.framework.MergeableCompForm`, up to the merge). The
    accumulators are merged in the order of the parts, and one worker computes the
    server's part. So the result of a round depends on the number of parts, but not on
    the speed of the workers. When a worker is lost in a round, the engine warns and
    leaves it out of the rest of the round. The other workers repeat its part. The
    engine uses the worker again when it answers.

    Clients' data, the model and the seed of the noise cross the network in plain text
    and without authentication. This is for simulation between machines that trust each
    other.

    Attributes:
      parts: number of parts of a cohort; fewer if the cohort has fewer clients.
    """

    def __init__(
        self,
        process: tff.templates.IterativeProcess,
        addresses: Sequence[str],
        *,
        parts: Optional[int] = None,
        connect_seconds: Optional[float] = None,
        answer_seconds: float = ANSWER_SECONDS,
        on_change: Callable[[str], None] = _warn,
    ):
        if not addresses:
            raise ValueError("addresses must name at least one worker, got none")
        repeated = [a for a, n in collections.Counter(addresses).items() if n > 1]
        if repeated:
            raise ValueError(f"every worker must be named once, got {repeated} again")
        self.parts = len(addresses) if parts is None else parts
        if self.parts < 1:
            raise ValueError(f"parts must be at least 1, got {self.parts}")
        self._initialize = process.initialize
        self._form = _mergeable(process.next)
        self._client_type = process.next.type_signature.parameter[1].member
        self._output_type = process.next.type_signature.result
        # A computation that several workers execute is compiled once.
        compile_once = functools.lru_cache(maxsize=None)(compiled)
        seconds = CONNECT_SECONDS if connect_seconds is None else connect_seconds
        self._workers = [RemoteWorker(a, seconds, answer_seconds) for a in addresses]
        self._contexts = [
            WorkerContext(w.ready_stub, compile_once) for w in self._workers
        ]
        self._pool = concurrent.futures.ThreadPoolExecutor(len(addresses))
        self._lost: set[int] = set()
        self._on_change = on_change

    def initialize(self) -> Any:
        """The initial server state, with NumPy leaves.

        Raises:
          WorkerUnavailable: none of the workers answers.
        """
        [state] = self._each([self._initialize])
        return state

    def next(self, state: Any, cohort: ClientValues) -> tuple[Any, Any]:
        """Executes a round; returns (new state, metrics) with NumPy leaves.

        Args:
          state: of `initialize` or an earlier round, of any engine.
          cohort: a cohort of the toolkit, or a list with one value per client of
            the type that the process takes; may be empty.

        Raises:
          WorkerUnavailable: none of the workers answers any more.
        """
        values = client_values(cohort, self._client_type)
        jobs = [
            functools.partial(self._form.up_to_merge, state, part)
            for part in consecutive(values, self.parts)
        ]
        merged, *further = self._each(jobs)
        for accumulated in further:
            [merged] = self._each(
                [functools.partial(self._form.merge, merged, accumulated)]
            )
        # Only the server's part is left, which needs no client data.
        [output] = self._each(
            [functools.partial(self._form.after_merge, (state, []), merged)]
        )
        # Compilation loses the Python containers of the process' result.
        leaves = flatten(output, self._output_type)
        new_state, metrics = pack(iter(leaves), self._output_type)
        return new_state, metrics

    def _each(self, jobs: Sequence[Callable[[], Any]]) -> list[Any]:
        """Returns the jobs' results in order; any worker may do any job."""
        waiting = collections.deque(enumerate(jobs))
        results: dict[int, Any] = {}
        reasons: list[str] = []

        def work(index: int) -> None:
            worker, context = self._workers[index], self._contexts[index]
            while waiting:
                try:
                    place, job = waiting.popleft()
                except IndexError:  # Another worker was faster.
                    return
                try:
                    with (
                        worker.losses_named(),
                        tff.framework.get_context_stack().install(context),
                    ):
                        results[place] = job()
                except WorkerUnavailable as error:
                    waiting.appendleft((place, job))
                    reasons.append(str(error))
                    self._lost.add(index)
                    return

        while waiting:
            before = set(self._lost)
            # Waiting for a lost worker would take its time-out in every round.
            self._lost = {i for i in before if not self._workers[i].has_answered()}
            living = [i for i in range(len(self._workers)) if i not in self._lost]
            if not living:
                raise WorkerUnavailable("; ".join(reasons) or self._nobody())
            list(self._pool.map(work, living))
            if len(self._lost) < len(self._workers):
                self._tell(before)
        return [results[place] for place in range(len(jobs))]

    def _nobody(self) -> str:
        addresses = ", ".join(worker.address for worker in self._workers)
        return f"no TFF worker answers any more at {addresses}"

    def _tell(self, before: set[int]) -> None:
        """Reports the newly lost workers, and the workers that answer again."""
        for index in sorted(self._lost - before):
            address = self._workers[index].address
            self._on_change(f"no TFF worker answers at {address}; others do its part")
        for index in sorted(before - self._lost):
            self._on_change(f"the TFF worker at {self._workers[index].address} is back")

    def close(self) -> None:
        """Closes the connections; the workers keep running."""
        # Calls that are still running fail with their connection.
        for worker in self._workers:
            worker.close()
        self._pool.shutdown()
        for context in self._contexts:
            context.close()


def consecutive(values: Sequence[Any], parts: int) -> list[list[Any]]:
    """Divides values into at most `parts` runs, whose lengths differ by at most one.

    The first runs are the longer runs. A run is empty only if there are no values; then
    there is a single run.
    """
    parts = max(1, min(parts, len(values)))
    length, longer = divmod(len(values), parts)
    runs, first = [], 0
    for index in range(parts):
        last = first + length + (index < longer)
        runs.append(list(values[first:last]))
        first = last
    return runs


def _mergeable(computation: Any) -> tff.framework.MergeableCompForm:
    """Divides a round into the workers' part, the merge, and the server's part."""
    result = computation.type_signature.result
    members = [result] if isinstance(result, tff.FederatedType) else list(result)
    if any(m.placement is not tff.SERVER for m in members):
        raise UnsupportedProcess(
            f"a round returns {result}, and results that stay at clients cannot be "
            "put together from several workers; runtime.tff_local(process) can run it"
        )
    try:
        return tff.backends.native.compile_to_mergeable_comp_form(
            tff.backends.test.replace_secure_intrinsics_with_bodies(computation)
        )
    except Exception as error:
        raise UnsupportedProcess(
            "a round has not exactly one aggregation, so its cohort cannot be divided "
            f"among workers ({type(error).__name__}: {str(error).splitlines()[0]}); "
            "runtime.tff_local(process) can run it"
        ) from error


def remote(
    process: tff.templates.IterativeProcess,
    addresses: Sequence[str],
    *,
    parts: Optional[int] = None,
    connect_seconds: Optional[float] = None,
    answer_seconds: float = ANSWER_SECONDS,
    on_change: Callable[[str], None] = _warn,
) -> RemoteEngine:
    """Makes an engine that divides rounds of `process` among TFF workers.

    Args:
      process: any `tff.templates.IterativeProcess` whose round has one aggregation.
        Several aggregations that do not depend on each other count as one.
      addresses: "host:port" of each worker.
      parts: number of parts of a cohort; by default the number of workers. With the
        same number of parts, a round gives the same result to the last bit.
      connect_seconds: seconds to wait for a worker's first answer, by default 10.
      answer_seconds: seconds after which a worker that computes, and does not answer
        what it is asked meanwhile, is lost.
      on_change: called with a sentence when a worker is lost or answers again; by
        default a warning.

    Raises:
      UnsupportedProcess: the process' cohort cannot be divided.
      ValueError: no address, or an address that is given twice.
    """
    return RemoteEngine(
        process,
        addresses,
        parts=parts,
        connect_seconds=connect_seconds,
        answer_seconds=answer_seconds,
        on_change=on_change,
    )
