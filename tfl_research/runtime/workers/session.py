"""Computations that stay on a worker, and calls of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, Optional

import grpc
import tensorflow_federated as tff

from tfl_research.runtime.workers.context import compiled

# Values that a worker keeps until their executor is replaced by another.
_MOST_VALUES = 16
_NO_CLIENTS = {tff.CLIENTS: 0}


class _Executor:
    """An executor on a worker with what was sent to it."""

    def __init__(
        self,
        stub: tff.framework.RemoteExecutorGrpcStub,
        compiler: Callable[[Any], Any],
    ):
        self.compiler = compiler
        self.remote = tff.framework.RemoteExecutor(
            _Quiet(stub), dispose_batch_size=_MOST_VALUES
        )
        self.remote.set_cardinalities(_NO_CLIENTS)
        self.computations: dict[int, Any] = {}
        self.lock = threading.Lock()


class _Quiet:
    """A stub whose disposals never fail: a lost worker has no values any more."""

    def __init__(self, stub: tff.framework.RemoteExecutorGrpcStub):
        self._stub = stub

    def dispose(self, request: Any) -> None:
        try:
            self._stub.dispose(request)
        except grpc.RpcError:
            return

    def get_executor(self, request: Any) -> Any:
        return self._stub.get_executor(request)

    def create_value(self, request: Any) -> Any:
        return self._stub.create_value(request)

    def create_struct(self, request: Any) -> Any:
        return self._stub.create_struct(request)

    def create_call(self, request: Any) -> Any:
        return self._stub.create_call(request)

    def compute(self, request: Any) -> Any:
        return self._stub.compute(request)

    def dispose_executor(self, request: Any) -> Any:
        return self._stub.dispose_executor(request)


class Session:
    """A worker's computations, which are sent once and called many times.

    TFF's own contexts send a computation with each call. The worker then reads its
    graph again, and XLA compiles the graph again. Here the worker keeps both until the
    session ends. Values of clients are released after each call.

    Threads may share a session.

    Args:
      stub: returns the worker's interface, or raises.
      compiler: compiles a computation for the worker.
    """

    def __init__(
        self,
        stub: Callable[[], tff.framework.RemoteExecutorGrpcStub],
        compiler: Callable[[Any], Any] = compiled,
    ):
        self._stub, self._compiler = stub, compiler
        self._lock = threading.Lock()
        self._executor: Optional[_Executor] = None

    def run(self, job: Callable[[Call], Any]) -> Any:
        """Executes a job, which makes its calls with the `Call` that it gets.

        A worker that was started anew knows nothing of its predecessor's executor. So a
        job that fails on an old executor is repeated on a new executor.

        Raises:
          grpc.RpcError: the worker was lost, or a computation failed.
        """
        with self._lock:
            executor, is_new = self._executor, self._executor is None
            if executor is None:
                executor = self._executor = _Executor(self._stub(), self._compiler)
        try:
            return _run(executor, job)
        except grpc.RpcError:
            self._forget(executor)
            if is_new:
                raise
        with self._lock:
            if self._executor is None:
                self._executor = _Executor(self._stub(), self._compiler)
            executor = self._executor
        return _run(executor, job)

    def _forget(self, executor: _Executor) -> None:
        with self._lock:
            if self._executor is executor:
                self._executor = None
        executor.computations.clear()
        executor.remote.close()

    def close(self) -> None:
        """Releases all computations and values on the worker."""
        if self._executor is not None:
            self._forget(self._executor)


def _run(executor: _Executor, job: Callable[[Call], Any]) -> Any:
    call = Call(executor)
    try:
        return job(call)
    finally:
        call.release()


class Call:
    """Makes values on a worker, which are released at the end of the job."""

    def __init__(self, executor: _Executor):
        self._executor = executor
        self._values: list[Any] = []

    def _made(self, making: Any) -> Any:
        value = asyncio.run(making)
        self._values.append(value)
        return value

    def value(self, value: Any, value_type: tff.Type) -> Any:
        """Sends a value; returns the worker's."""
        return self._made(self._executor.remote.create_value(value, value_type))

    def struct(self, values: Sequence[Any]) -> Any:
        """A structure of values that the worker has."""
        return self._made(self._executor.remote.create_struct(list(values)))

    def apply(self, computation: Any, argument: Any) -> Any:
        """Calls a computation; its result stays on the worker."""
        remote = self._executor.remote
        with self._executor.lock:
            kept = self._executor.computations
            if id(computation) not in kept:
                # Compiled, a computation has the key by which the worker knows it.
                ready = self._executor.compiler(computation)
                sent = remote.create_value(ready, ready.type_signature)
                # The computation is kept too, so that its id stays its own.
                kept[id(computation)] = asyncio.run(sent), computation
            function, _ = kept[id(computation)]
        return self._made(remote.create_call(function, argument))

    def fetched(self, value: Any) -> Any:
        """Waits for a value and returns it."""
        return asyncio.run(value.compute())

    def release(self) -> None:
        """Releases the job's values on the worker."""
        # The executor's list of released values is not made for several threads.
        with self._executor.lock:
            self._values.clear()
