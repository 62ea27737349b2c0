"""Clients that draw their local steps from seeds of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tfl_research.data.client_data import ClientData
from tfl_research.data.cohort import Cohort


@dataclasses.dataclass(frozen=True)
class SeededClients(ClientData):
    """Clients whose local steps come from a seed of their own, as at sites.

    Attributes:
      seeds: the seeds by client id.
    """

    seeds: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, clients: ClientData, seeds: Mapping[str, int]) -> SeededClients:
        """Returns the same clients, with seeds of their own.

        Raises:
          ValueError: a client has no seed.
        """
        for client_id in clients.client_ids:
            if client_id not in seeds:
                raise ValueError(
                    f"client {client_id!r} has no seed; give a seed for every client"
                )
        values = {
            field.name: getattr(clients, field.name)
            for field in dataclasses.fields(ClientData)
        }
        return cls(**values, seeds=dict(seeds))

    def cohort(
        self, client_ids: Sequence[str], *, seed: int, round_number: int
    ) -> Cohort:
        """Makes the local steps of a round; each client's own seed replaces `seed`."""
        parts = [
            super(SeededClients, self).cohort(
                [name], seed=self.seeds[name], round_number=round_number
            )
            for name in client_ids
        ]
        if not parts:
            return super().cohort([], seed=seed, round_number=round_number)
        part_of = dict(zip(client_ids, parts))
        poisson = [steps for part in parts for steps in part.poisson or ()]
        roles = [part.roles for part in parts if part.roles is not None]
        return dataclasses.replace(
            parts[0],
            client_ids=tuple(client_ids),
            load=lambda name: part_of[name].load(name),
            orders=tuple(order for part in parts for order in part.orders),
            seeds=np.concatenate([part.seeds for part in parts]),
            roles=np.concatenate(roles) if roles else None,
            poisson=tuple(poisson) if parts[0].poisson is not None else None,
        )
