"""A gRPC connection to a TFF worker."""

from __future__ import annotations

from typing import Any, Optional

import grpc
import tensorflow_federated as tff

from tfl_research import _tff_compat

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
_QUESTION = "/tensorflow_federated.v0.ExecutorGroup/GetExecutor"


class _Unwatched:
    """A channel without subscriptions to its state.

    TFF's stub would subscribe, and its thread would print an error when the channel is
    closed.
    """

    def __init__(self, channel: grpc.Channel):
        self._channel = channel

    def subscribe(self, callback: Any, try_to_connect: bool = False) -> None:
        """Never calls `callback`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)


class Connection:
    """A connection to the TFF worker at an address.

    Attributes:
      address: "host:port".
      stub: the worker's interface; calls fail while the worker does not answer.
    """

    def __init__(self, address: str):
        self.address = address
        self._channel = grpc.insecure_channel(address, _OPTIONS)
        self.stub = tff.framework.RemoteExecutorGrpcStub(_Unwatched(self._channel))
        self._ask = self._channel.unary_unary(
            _QUESTION,
        )
        self._request = _tff_compat.executor_request()
        self._pending: Optional[Any] = None

    def answers(self, seconds: float) -> bool:
        """Whether a TFF worker answers within `seconds`."""
        try:
            self._ask(self._request, timeout=seconds, wait_for_ready=True)
        except grpc.RpcError:
            return False
        return True

    def has_answered(self) -> bool:
        """Whether the worker has answered since the first call; does not wait."""
        if self._pending is None:
            self._pending = self._ask.future(self._request, wait_for_ready=True)
        if not self._pending.done():
            return False
        failed = self._pending.exception() is not None
        self._pending = None
        return not failed

    def close(self) -> None:
        """Closes the connection; the worker keeps running."""
        self._channel.close()
