"""What the coordinator asks of the clients of a round, and what they report."""

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
        coordinator has zeros instead.
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
    """How often a run has begun again with new noise (`--recharge`).

    Attributes:
      times: how often; 0 for a run that has not.
      after: the last round that is not repeated.
    """

    times: int = 0
    after: int = 0


@dataclasses.dataclass(frozen=True)
class AskedRound:
    """A round, as the coordinator asks for it.

    Attributes:
      number: from 1.
      client_ids: the cohort.
      state_rounds: for each client, the last round whose state counts; 0 for none.
      context: tensors that the server sends to every client.
    """

    number: int
    client_ids: Sequence[str]
    state_rounds: Mapping[str, int]
    context: Sequence[np.ndarray]

    def requests(
        self, site_of: Mapping[str, str], restarts: Restarts
    ) -> dict[str, Message]:
        """The request to each site that has a client in the cohort.

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
