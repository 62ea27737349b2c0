"""Computations that stay on a worker, and calls of them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Sequence
from typing import Any, Optional

import grpc
import numpy as np
import tensorflow_federated as tff

from tfl_research.errors import UserError
from tfl_research.runtime.workers.connection import NoAnswer
from tfl_research.runtime.workers.context import compiled

_NO_CLIENTS = {tff.CLIENTS: 0}
_NUMBER = tff.TensorType(np.int32)
# How often a worker may be lost while it executes one job. The job itself may end it.
_MOST_LOSSES = 5


class _Executor:
    """An executor on a worker, and the computations that were sent to the executor."""

    def __init__(
        self,
        stub: tff.framework.RemoteExecutorGrpcStub,
        compiler: Callable[[Any], Any],
        values: int,
    ):
        self.compiler = compiler
        self.remote = tff.framework.RemoteExecutor(
            _Quiet(stub), dispose_batch_size=values
        )
        self.remote.set_cardinalities(_NO_CLIENTS)
        self.computations: dict[int, Any] = {}
        self.lock = threading.Lock()
        self.is_closed = False
        # The executor's list of released values is not made for several threads. Nobody
        # waits for the call that releases them.
        self._releasing = concurrent.futures.ThreadPoolExecutor(1, "tff_worker")

    def is_known(self) -> bool:
        """Whether the worker still has the executor, since it was not started again."""
        probe = self.remote.create_value(np.int32(0), _NUMBER)
        try:
            self.release([asyncio.run(probe)])
        except (grpc.RpcError, ValueError):
            return False
        return True

    def release(self, values: list[Any]) -> None:
        """Releases a job's values on the worker, soon."""
        with self.lock:
            if not self.is_closed:
                self._releasing.submit(values.clear)
                return
        # The executor's release has released these values, too.
        values.clear()

    def close(self) -> None:
        """Releases everything on the worker."""
        with self.lock:
            self.is_closed = True
        self._releasing.shutdown()
        self.computations.clear()
        self.remote.close()


class _Quiet:
    """A stub whose disposals never fail: a lost worker has no values any more.

    An error keeps values until it is printed, when the connection is already closed;
    gRPC then raises ValueError.
    """

    def __init__(self, stub: tff.framework.RemoteExecutorGrpcStub):
        self._stub = stub

    def dispose(self, request: Any) -> None:
        try:
            self._stub.dispose(request)
        except (grpc.RpcError, ValueError):
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
      values: how many values each job makes. The worker releases them together.
      compiler: compiles a computation for the worker.
    """

    def __init__(
        self,
        stub: Callable[[], tff.framework.RemoteExecutorGrpcStub],
        values: int,
        compiler: Callable[[Any], Any] = compiled,
    ):
        self._stub, self._values, self._compiler = stub, values, compiler
        self._lock = threading.Lock()
        self._executor: Optional[_Executor] = None

    def run(self, job: Callable[[Call], Any]) -> Any:
        """Executes a job: a function that takes a `Call` and makes calls with it.

        A worker that was restarted does not know its earlier executors. So a job that
        fails on an old executor is repeated on a new executor. The job is also repeated
        if the worker was restarted while it executed the job: this failure says nothing
        about the job.

        Raises:
          grpc.RpcError: the worker does not answer, or a computation failed.
          UserError: the worker was restarted again and again during the job.
        """
        has_failed, losses = False, 0
        while True:
            with self._lock:
                executor, is_new = self._executor, self._executor is None
                if executor is None:
                    executor = self._executor = self._opened()
            try:
                return _run(executor, job)
            except (grpc.RpcError, ValueError) as error:
                # Another thread's job that fails closes the executor of this job.
                is_own = not executor.is_closed
                is_call = isinstance(error, grpc.RpcError)
                is_lost = (
                    (is_call and is_own)
                    and not isinstance(error, NoAnswer)
                    and not executor.is_known()
                )
                if is_call:
                    self._forget(executor)
                if is_lost:
                    losses += 1
                    if losses < _MOST_LOSSES:
                        continue
                    raise UserError(
                        f"a TFF worker ended {losses} times while it computed one part "
                        "of a round; look for the reason in the worker's output, then "
                        "give the same command again"
                    ) from error
                if is_own and (is_new or has_failed or not is_call):
                    raise
                has_failed = has_failed or is_own

    def _opened(self) -> _Executor:
        return _Executor(self._stub(), self._compiler, self._values)

    def _forget(self, executor: _Executor) -> None:
        with self._lock:
            if self._executor is executor:
                self._executor = None
        executor.close()

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
        """Sends a value; returns the worker's value."""
        return self._made(self._executor.remote.create_value(value, value_type))

    def struct(self, values: Sequence[Any]) -> Any:
        """Makes a structure of values that the worker has."""
        return self._made(self._executor.remote.create_struct(list(values)))

    def apply(self, computation: Any, argument: Any) -> Any:
        """Calls a computation; its result stays on the worker."""
        remote = self._executor.remote
        with self._executor.lock:
            kept = self._executor.computations
            if id(computation) not in kept:
                # A compiled computation has the key by which the worker knows it.
                ready = self._executor.compiler(computation)
                sent = remote.create_value(ready, ready.type_signature)
                # The computation is kept too, so that no other object gets its id.
                kept[id(computation)] = asyncio.run(sent), computation
            function, _ = kept[id(computation)]
        return self._made(remote.create_call(function, argument))

    def fetched(self, value: Any) -> Any:
        """Waits for a value and returns it."""
        return asyncio.run(value.compute())

    def release(self) -> None:
        """Releases the job's values on the worker."""
        self._executor.release(self._values)
