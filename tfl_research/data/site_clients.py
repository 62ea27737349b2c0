"""Clients whose examples are at their sites; only ids and sizes are known here."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Optional

import numpy as np

from tfl_research.data.client_data import AnyBatching, ClientData
from tfl_research.data.cohort import ArraySpec, Cohort, Examples
from tfl_research.errors import UserError


@dataclasses.dataclass(frozen=True)
class SiteCohort(Cohort):
    """The clients of a round, for which their sites make the local steps.

    Attributes:
      round_number: the round's number, from 1; a site needs it to make local steps.
    """

    round_number: int = 0


@dataclasses.dataclass(frozen=True)
class SiteClients(ClientData):
    """Clients of several sites; the examples of some, or of none, are here.

    Attributes:
      sizes: number of examples by client id, of the clients whose sites tell them.
      own: the clients whose examples are here; None at a coordinator.
      mark: a keyed digest of all sites' data; it changes when the data change.
    """

    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    own: Optional[ClientData] = None
    mark: str = ""

    @classmethod
    def of(
        cls,
        client_ids: Sequence[str],
        specs: Mapping[str, ArraySpec],
        batching: AnyBatching,
        *,
        sizes: Mapping[str, int],
        own: Optional[ClientData] = None,
        mark: str = "",
    ) -> SiteClients:
        """Makes the clients of a federation.

        Args:
          client_ids: the client ids of all sites, in a fixed order.
          specs: the specs of an example.
          batching: divides examples into local steps.
          sizes: number of examples by client id, where it is known.
          own: the clients whose examples are here.
          mark: see the attribute.
        """
        here = frozenset(() if own is None else own.client_ids)

        def load(client_id: str) -> Examples:
            if own is None or client_id not in here:
                raise UserError(
                    f"client {client_id!r}: its examples are at its site, and a part "
                    "of this run needs them here; leave this part out, or give "
                    "--runtime=in_process"
                )
            return own.load(client_id)

        return cls(
            tuple(client_ids),
            load,
            dict(specs),
            batching,
            sizes=dict(sizes),
            own=own,
            mark=mark,
        )

    @property
    def here(self) -> Sequence[str]:
        """The clients whose examples can be loaded here."""
        return () if self.own is None else self.own.client_ids

    def num_examples(self, client_id: str) -> int:
        """Returns the number of examples that the client holds.

        Raises:
          UserError: the site of the client does not tell the number.
        """
        if client_id not in self.sizes:
            raise UserError(
                f"client {client_id!r}: its site does not tell its number of "
                "examples, which this run needs; add 'examples' to metrics in "
                "site.toml"
            )
        return self.sizes[client_id]

    def items(self) -> Iterator[tuple[str, Examples]]:
        """Yields ids and examples of the clients whose examples are at this site."""
        for client_id in self.here:
            yield client_id, self.load(client_id)

    def cohort(
        self, client_ids: Sequence[str], *, seed: int, round_number: int
    ) -> Cohort:
        """Makes local steps of clients here; for other clients only ids and round."""
        if client_ids and set(self.here).issuperset(client_ids):
            return super().cohort(client_ids, seed=seed, round_number=round_number)
        return SiteCohort(
            tuple(client_ids),
            self.load,
            tuple(
                np.zeros((0, self.batching.batch_size), np.int64) for _ in client_ids
            ),
            np.zeros((len(client_ids), 2), np.int32),
            self.specs,
            self.batching.batch_size,
            round_number=round_number,
        )
