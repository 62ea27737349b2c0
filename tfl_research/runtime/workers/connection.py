"""A gRPC connection to a TFF worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import grpc
import tensorflow_federated as tff

_MESSAGE_BYTES = 2**31 - 1
_OPTIONS = (
    # Messages can have any size.
    ("grpc.max_message_length", _MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    # Pings detect a machine that is lost. Servers treat pings that come more often than
    # every five minutes as an attack.
    ("grpc.keepalive_time_ms", 360_000),
)
# Every worker answers this request, and it changes nothing: no such executor exists.
_QUESTION = "/tensorflow_federated.v0.ExecutorGroup/DisposeExecutor"
_REQUEST = b""
ANSWER_SECONDS = 30.0
# The part of the time for an answer that passes between two questions.
_SILENCE = 1 / 3


class NoAnswer(grpc.RpcError):
    """A worker has not answered in time."""


class _Patient:
    """A channel whose calls wait for as long as the worker answers other questions.

    It has no subscriptions to its state: TFF's stub would subscribe, and its thread
    would print an error when the channel is closed.
    """

    def __init__(self, channel: grpc.Channel, wait: Callable[[Any], Any]):
        self._channel = channel
        self._wait = wait

    def subscribe(self, callback: Any, try_to_connect: bool = False) -> None:
        """Never calls `callback`."""

    def unary_unary(self, *arguments: Any, **named: Any) -> Callable[[Any], Any]:
        """Returns a call of the channel that waits as this connection does."""
        method = self._channel.unary_unary(*arguments, **named)
        return lambda request: self._wait(method.future(request))


class Connection:
    """A connection to the TFF worker at an address.

    A call may take hours. While the call waits, the connection asks the worker short
    questions, which a working worker answers at once. If the worker does not answer,
    since it was stopped or its machine is gone, the call fails.

    Attributes:
      address: "host:port", or "unix:path".
      answer_seconds: a call fails with `NoAnswer` when the worker has not answered for
        so long.
      stub: the worker's interface; calls fail while the worker does not answer.
    """

    def __init__(self, address: str, answer_seconds: float = ANSWER_SECONDS):
        self.address = address
        self.answer_seconds = answer_seconds
        self._channel = grpc.insecure_channel(address, _OPTIONS)
        self.stub = tff.framework.RemoteExecutorGrpcStub(
            _Patient(self._channel, self._result)
        )
        self._ask = self._channel.unary_unary(_QUESTION)
        self._pending: Optional[Any] = None
        self._is_silent = False

    def _result(self, call: Any) -> Any:
        silence = _SILENCE * self.answer_seconds
        while not self._is_silent:
            try:
                return call.result(timeout=silence)
            except grpc.FutureTimeoutError:
                self._is_silent = not self.answers(self.answer_seconds - silence)
        # Later calls, such as the release of the call's executor, do not wait again.
        call.cancel()
        raise NoAnswer(f"{self.address} has not answered for {self.answer_seconds:g} s")

    def answers(self, seconds: float) -> bool:
        """Whether a TFF worker answers within `seconds`."""
        try:
            self._ask(_REQUEST, timeout=seconds, wait_for_ready=True)
        except grpc.RpcError:
            return False
        self._is_silent = False
        return True

    def has_answered(self) -> bool:
        """Whether the worker has answered since the first call; does not wait."""
        if self._pending is None:
            self._pending = self._ask.future(_REQUEST, wait_for_ready=True)
        if not self._pending.done():
            return False
        failed = self._pending.exception() is not None
        self._pending = None
        self._is_silent = self._is_silent and failed
        return not failed

    def close(self) -> None:
        """Closes the connection; the worker keeps running."""
        self._channel.close()
