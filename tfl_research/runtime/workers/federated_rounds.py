"""Rounds that TFF's own runtime executes on several workers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow_federated as tff

from tfl_research import interrupts
from tfl_research.runtime.conversion.process_forms import UnsupportedProcess
from tfl_research.runtime.engine import ClientValues
from tfl_research.runtime.graphs.structures import flatten, pack
from tfl_research.runtime.rounds.client_values import client_values
from tfl_research.runtime.workers.context import WorkerContext, compiled
from tfl_research.runtime.workers.pool import Job, WorkerPool, consecutive


class FederatedRounds:
    """Executes a process' rounds as TFF divides them.

    Each worker accumulates a part of the cohort (`tff.framework.MergeableCompForm`, up
    to the merge). The accumulators are merged in the order of the parts, and one worker
    computes the server's part.

    Args:
      process: a process whose round has one aggregation.
      pool: the workers.
      parts: number of parts of a cohort.

    Raises:
      UnsupportedProcess: the process' cohort cannot be divided.
    """

    def __init__(
        self, process: tff.templates.IterativeProcess, pool: WorkerPool, parts: int
    ):
        self._pool, self._parts = pool, parts
        self._initialize = process.initialize
        self._form = _mergeable(process.next)
        self._client_type = process.next.type_signature.parameter[1].member
        self._output_type = process.next.type_signature.result
        # A computation that several workers execute is compiled once.
        compile_once = functools.lru_cache(maxsize=None)(compiled)
        self._contexts = [
            WorkerContext(w.ready_stub, compile_once) for w in pool.workers
        ]

    def initialize(self) -> Any:
        """Returns the initial server state, with NumPy leaves."""
        [state] = self._each([self._initialize])
        return state

    def next(self, state: Any, cohort: ClientValues) -> tuple[Any, Any]:
        """Executes a round; returns (new state, metrics) with NumPy leaves."""
        values = client_values(cohort, self._client_type)
        jobs = [
            functools.partial(self._form.up_to_merge, state, part)
            for part in consecutive(values, self._parts)
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

    def _each(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        def on_worker(call: Callable[[], Any]) -> Job:
            def job(index: int) -> Any:
                with tff.framework.get_context_stack().install(self._contexts[index]):
                    return call()

            return job

        return self._pool.each([on_worker(call) for call in calls])

    def close(self) -> None:
        """Ends the contexts; the pool must be closed first."""
        for context in self._contexts:
            context.close()


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
        interrupts.check()
        raise UnsupportedProcess(
            "a round has not exactly one aggregation, so its cohort cannot be divided "
            f"among workers ({type(error).__name__}: {str(error).splitlines()[0]}); "
            "runtime.tff_local(process) can run it"
        ) from error
