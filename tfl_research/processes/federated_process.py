"""A TFF process that states its message sizes, client states and privacy plan."""

from __future__ import annotations

from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.processes.client_states import ClientStateSpec


class FederatedProcess(tff.templates.IterativeProcess):
    """A TFF process that states its message sizes, client states and privacy plan.

    Attributes:
      client_states: the state that each client keeps between rounds; None if clients
        keep no state.
      download_bytes: bytes that the server sends to a client in a round.
      upload_bytes: bytes of the compressed update and report that a client sends.
        The client's weight and counts, a few numbers, are left out.
      plan: the privacy plan that the process was built from, as the aggregator or the
        client work declares the plan; None without a plan.
      client_secrets: whether each client's value has a `client_secret`, from which the
        client draws noise (`data.client_secrets`).
    """

    def __init__(
        self,
        initialize: tff.Computation,
        next_round: tff.Computation,
        *,
        client_states: Optional[ClientStateSpec],
        download_bytes: int,
        upload_bytes: int,
        plan: Any = None,
        client_secrets: bool = False,
    ):
        super().__init__(initialize, next_round)
        self.client_states = client_states
        self.download_bytes = download_bytes
        self.upload_bytes = upload_bytes
        self.plan = plan
        self.client_secrets = client_secrets

    @property
    def message_bytes(self) -> tuple[int, int]:
        """`download_bytes` and `upload_bytes`."""
        return self.download_bytes, self.upload_bytes


def size_in_bytes(value_type: tff.Type) -> int:
    """Counts the bytes of a structure of tensors; tensors of unknown shape count 0."""
    return sum(size * leaf.dtype.itemsize for leaf, size in _sizes(value_type))


def count_scalars(value_type: tff.Type) -> int:
    """Counts the scalars of a structure of tensors; unknown shapes count 0."""
    return sum(size for _, size in _sizes(value_type))


def _sizes(value_type: tff.Type) -> list[tuple[tff.TensorType, int]]:
    leaves = (
        tff.structure.flatten(value_type)
        if isinstance(value_type, tff.StructType)
        else [value_type]
    )
    return [(leaf, tf.TensorShape(leaf.shape).num_elements() or 0) for leaf in leaves]
