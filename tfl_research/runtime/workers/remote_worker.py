"""A TFF worker that this process did not start."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import grpc
import tensorflow_federated as tff

from tfl_research.runtime.workers.connection import (
    ANSWER_SECONDS,
    Connection,
    NoAnswer,
)


class WorkerUnavailable(RuntimeError):
    """A worker does not answer, or no longer answers."""


class RemoteWorker(Connection):
    """The TFF worker at an address, which must answer before it is used.

    Attributes:
      connect_seconds: seconds to wait for an answer.
    """

    def __init__(
        self,
        address: str,
        connect_seconds: float,
        answer_seconds: float = ANSWER_SECONDS,
    ):
        super().__init__(address, answer_seconds)
        self.connect_seconds = connect_seconds

    def ready_stub(self) -> tff.framework.RemoteExecutorGrpcStub:
        """Waits until the worker answers, and returns the worker's interface.

        Raises:
          WorkerUnavailable: the worker does not answer within `connect_seconds`.
        """
        if not self.answers(self.connect_seconds):
            raise WorkerUnavailable(
                f"no TFF worker answers at {self.address} within "
                f"{self.connect_seconds:g} s"
            )
        return self.stub

    @contextlib.contextmanager
    def losses_named(self) -> Iterator[None]:
        """Raises `WorkerUnavailable` if the connection is lost inside of the block."""
        try:
            yield
        except NoAnswer as error:
            raise WorkerUnavailable(
                f"the TFF worker at {self.address} has not answered for "
                f"{self.answer_seconds:g} s"
            ) from error
        except grpc.RpcError:
            # The error code is not enough: a call to a killed worker can end in several
            # ways, and a running worker can refuse a call.
            self.ready_stub()
            raise
