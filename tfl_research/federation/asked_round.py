"""The coordinator's request for a round, and the form of the clients' reports."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tfl_research.federation.wire.messages import Message


@dataclasses.dataclass(frozen=True)
class ReportSpec:
    """One tensor of a client's report.

    Attributes:
      dtype: the dtype of the tensor.
      shape: the shape of the tensor.
      kept: whether the tensor stays at the site, as a client's own state; the
        coordinator uses zeros instead.
      modulus: the modulus of the secure sum that the tensor is part of; 0 for other
        tensors.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    kept: bool = False
    modulus: int = 0

    def zeros(self) -> np.ndarray:
        """Zeros of the shape."""
        return np.zeros(self.shape, self.dtype)


@dataclasses.dataclass(frozen=True)
class Restarts:
    """The restarts of a run with new noise (`--recharge`).

    Attributes:
      times: number of restarts.
      after: the last round that is not repeated.
    """

    times: int = 0
    after: int = 0


@dataclasses.dataclass(frozen=True)
class AskedRound:
    """A round, as the coordinator asks for it.

    Attributes:
      number: number of the round, from 1.
      client_ids: the cohort.
      state_rounds: for each client, the last round whose state counts; 0 for no round.
      context: tensors that the server sends to every client.
    """

    number: int
    client_ids: Sequence[str]
    state_rounds: Mapping[str, int]
    context: Sequence[np.ndarray]

    def requests(
        self, site_of: Mapping[str, str], restarts: Restarts
    ) -> dict[str, Message]:
        """Makes the request to each site that has a client in the cohort.

        Args:
          site_of: the site of each client.
          restarts: the number of restarts of the run.
        """
        requests = {}
        for site in dict.fromkeys(site_of[i] for i in self.client_ids):
            own = [i for i in self.client_ids if site_of[i] == site]
            requests[site] = Message(
                "round",
                {
                    "round": self.number,
                    "completed": self.number - 1,
                    "clients": own,
                    "state_rounds": {i: self.state_rounds[i] for i in own},
                    "restarts": restarts.times,
                    "restarted_after": restarts.after,
                },
                {f"context/{n}": tensor for n, tensor in enumerate(self.context)},
            )
        return requests
