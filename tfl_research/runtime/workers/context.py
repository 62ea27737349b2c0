"""Executes computations on a worker, and leaves nothing of them there."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
from collections.abc import Callable
from typing import Any

import tensorflow_federated as tff

from tfl_research import _tff_compat


def compiled(computation: Any) -> Any:
    """Compiles a computation for TFF's runtime.

    Secure sums become plain sums. TFF's runtime does not execute secure sums, and in a
    simulation one process has the values of all clients.
    """
    return tff.backends.native.desugar_and_transform_to_native(
        tff.backends.test.replace_secure_intrinsics_with_bodies(computation)
    )


class _Executors(tff.framework.ExecutorFactory):
    """Makes an executor on a worker for each call.

    TFF's own factory keeps an executor for each size of a cohort, and drops the oldest
    executor without telling the worker. The worker then holds eight threads and all
    values of that executor until the worker ends.
    """

    def __init__(self, stub: Callable[[], tff.framework.RemoteExecutorGrpcStub]):
        self._stub = stub
        self._made: list[tff.framework.RemoteExecutor] = []

    def create_executor(self, cardinalities: Any) -> tff.framework.RemoteExecutor:
        """Makes a new executor for the numbers of clients in `cardinalities`."""
        # Values are not disposed of one by one: the executor's release drops them all.
        made = tff.framework.RemoteExecutor(
            self._stub(), dispose_batch_size=sys.maxsize
        )
        made.set_cardinalities({tff.CLIENTS: 0, **cardinalities})
        self._made.append(made)
        return made

    def clean_up_executor(self, cardinalities: Any) -> None:
        """Does nothing: `release` follows."""

    def release(self) -> None:
        """Releases the executors on the worker, with all values that they hold."""
        while self._made:
            self._made.pop().close()


class WorkerContext(tff.framework.SyncContext):
    """A TFF execution context that runs on a worker.

    Args:
      stub: returns the worker's interface, or raises. It is called for every call of
        a computation.
      compiler: compiles a computation for the worker.
    """

    def __init__(
        self,
        stub: Callable[[], tff.framework.RemoteExecutorGrpcStub],
        compiler: Callable[[Any], Any] = compiled,
    ):
        self._executors = _Executors(stub)
        self._context = tff.framework.AsyncExecutionContext(
            self._executors,
            compiler_fn=compiler,
            transform_args=_tff_compat.transform_arguments,
            transform_result=_tff_compat.transform_result,
        )
        # One call at a time. The caller's thread may have a running event loop.
        self._pool = concurrent.futures.ThreadPoolExecutor(1, "tff_worker")

    def invoke(self, comp: Any, arg: Any) -> Any:
        """Executes a computation; see `tff.framework.SyncContext`."""
        return self._pool.submit(self._invoke, comp, arg).result()

    def _invoke(self, comp: Any, arg: Any) -> Any:
        try:
            return asyncio.run(self._context.invoke(comp, arg))
        finally:
            self._executors.release()

    def close(self) -> None:
        """Ends the thread; a call that is running must end first, or fail."""
        self._pool.shutdown(wait=False)
