"""A TFF process that says what its messages and its clients' states are."""

from __future__ import annotations

from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.processes.client_states import ClientStateSpec


class FederatedProcess(tff.templates.IterativeProcess):
    """A TFF process that says what its messages and its clients' states are.

    Attributes:
      client_states: what clients keep between rounds; None for nothing.
      download_bytes: what a client is sent in a round.
      upload_bytes: what it sends back, an update and a report as they are coded. The
        few numbers beside them, its weight and what it counted, are left out.
      plan: the privacy plan that the process was built from, as its aggregator or its
        client work declares it; None without one.
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
    ):
        super().__init__(initialize, next_round)
        self.client_states = client_states
        self.download_bytes = download_bytes
        self.upload_bytes = upload_bytes
        self.plan = plan


def size_in_bytes(value_type: tff.Type) -> int:
    """Bytes of a value of tensors; those of unknown shape count nothing."""
    total = 0
    leaves = (
        tff.structure.flatten(value_type)
        if isinstance(value_type, tff.StructType)
        else [value_type]
    )
    for leaf in leaves:
        size = tf.TensorShape(leaf.shape).num_elements() or 0
        total += size * leaf.dtype.itemsize
    return total
