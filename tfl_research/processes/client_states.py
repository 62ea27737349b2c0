"""How clients' states leave a round: one table row for each client of the cohort."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

# Members of a client's data, beside its local steps.
STATE = "client_state"
POSITION = "position"


@dataclasses.dataclass(frozen=True, eq=False)
class ClientStateSpec:
    """What a process keeps for every client between its rounds.

    Clients are handed their `client_state`, float32 `[d]`, and their `position` in the
    cohort, int32 `[]`; the round's metrics have `client_states`, float32 `[capacity,
    d]`, in which the row at that position is the client's new state.

    Attributes:
      initial: float32 `[d]`, a client's state before its first round.
      capacity: clients that a cohort may have at most.
    """

    initial: np.ndarray
    capacity: int

    def __post_init__(self) -> None:
        if self.initial.ndim != 1 or self.initial.dtype != np.float32:
            raise ValueError(
                "a client's state must be a float32 vector, got "
                f"{self.initial.dtype} of shape {self.initial.shape}"
            )
        if self.capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {self.capacity}")

    @property
    def members(self) -> list[tuple[str, tff.TensorType]]:
        """Types of the members of a client's data."""
        return [
            (STATE, tff.TensorType(np.float32, self.initial.shape)),
            (POSITION, tff.TensorType(np.int32)),
        ]


def collect(spec: ClientStateSpec, states: Any, positions: Any) -> Any:
    """Clients' states as rows of a table at the server, inside of a TFF computation.

    Args:
      spec: sizes.
      states: float32 `[d]` at the clients.
      positions: int32 `[]` at the clients, each another.

    Returns:
      float32 `[capacity, d]` at the server; rows of nobody are zero.
    """
    shape = [spec.capacity, len(spec.initial)]
    row_type = tff.TensorType(np.float32, spec.initial.shape)

    @tff.tensorflow.computation
    def zero() -> Any:
        return tf.zeros(shape, tf.float32)

    table_type = zero.type_signature.result

    @tff.tensorflow.computation(table_type, (row_type, tff.TensorType(np.int32)))
    def accumulate(table: Any, client: Any) -> Any:
        row, position = client
        # Adding to a row of zeros, which XLA does in place.
        return tf.tensor_scatter_nd_add(table, [[position]], row[None, :])

    @tff.tensorflow.computation(table_type, table_type)
    def merge(first: Any, second: Any) -> Any:
        return first + second

    @tff.tensorflow.computation(table_type)
    def report(table: Any) -> Any:
        return table

    return tff.federated_aggregate(
        tff.federated_zip((states, positions)), zero(), accumulate, merge, report
    )
