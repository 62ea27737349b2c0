"""A TFF worker that somebody else started."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import grpc
import tensorflow_federated as tff

from tfl_research.runtime.workers.connection import Connection


class WorkerUnavailable(RuntimeError):
    """A worker that does not answer, or no longer does."""


class RemoteWorker(Connection):
    """The TFF worker at an address, asked before it is used.

    Attributes:
      connect_seconds: how long it may take until the worker answers.
    """

    def __init__(self, address: str, connect_seconds: float):
        super().__init__(address)
        self.connect_seconds = connect_seconds

    def ready_stub(self) -> tff.framework.RemoteExecutorGrpcStub:
        """The worker's interface, once it answers.

        Raises:
          WorkerUnavailable: it does not within `connect_seconds`.
        """
        if not self.answers(self.connect_seconds):
            raise WorkerUnavailable(
                f"no TFF worker answers at {self.address} within "
                f"{self.connect_seconds:g} s"
            )
        return self.stub

    @contextlib.contextmanager
    def losses_named(self) -> Iterator[None]:
        """Turns a lost connection inside of the block into `WorkerUnavailable`."""
        try:
            yield
        except grpc.RpcError:
            # The code alone does not tell: a worker that is killed while it computes
            # can end a call in several ways, and one that lives can refuse a call.
            self.ready_stub()
            raise
