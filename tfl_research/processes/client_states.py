"""Collects the clients' states in the rows of a table at the end of a round."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

# Members of a client's data, in addition to its local steps.
STATE = "client_state"
POSITION = "position"


@dataclasses.dataclass(frozen=True, eq=False)
class ClientStateSpec:
    """The state that every client keeps between rounds.

    A client receives its `client_state`, float32 `[d]`, and its `position` in the
    cohort, int32 `[]`. The round's metrics have `client_states`, float32 `[capacity,
    d]`. The row at a client's position is the client's new state.

    Attributes:
      initial: float32 `[d]`, a client's state before its first round.
      capacity: largest number of clients in a cohort.
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
        """Names and types of the members that are added to a client's data."""
        return [
            (STATE, tff.TensorType(np.float32, self.initial.shape)),
            (POSITION, tff.TensorType(np.int32)),
        ]


def collect(spec: ClientStateSpec, states: Any, positions: Any) -> Any:
    """Collects clients' states in a table at the server, inside a TFF computation.

    Args:
      spec: sizes of the states and of the table.
      states: float32 `[d]` at the clients.
      positions: int32 `[]` at the clients, all different.

    Returns:
      float32 `[capacity, d]` at the server; unused rows are zero.
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
        # Adding to a row of zeros lets XLA change the table in place.
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
