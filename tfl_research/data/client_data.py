"""Client data: examples by client, lazily loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Union

import numpy as np

from tfl_research.data.batching import (
    ONE_EPOCH,
    Batching,
    derived_generator,
    step_order,
)
from tfl_research.data.cohort import ArraySpec, Cohort, Examples
from tfl_research.data.poisson_batching import PoissonBatching

# The division of examples into local steps.
AnyBatching = Union[Batching, PoissonBatching]

# Bytes of examples that a cohort keeps between counting and gathering them. Examples
# of further clients are loaded twice, so memory does not grow with the cohort.
_CACHE_BYTES = 8 * 2**20


@dataclasses.dataclass(frozen=True)
class ClientData:
    """Examples by client; loading is lazy, so unsampled clients cost nothing.

    Attributes:
      client_ids: ids of all clients, in a fixed order.
      load: gives a client's examples; must be a pure function of the id.
      specs: `{"x": ArraySpec, "y": ArraySpec}` of an example.
      batching: divides examples into local steps in `cohort`.
      roles: an int above 0 by client id for clients with another role than honest
        training (an attacker, a canary); 0 for other clients. If not None, even if
        empty, every client of a cohort has a member `role`.
      exchanges: number of rounds in a row in which a client has the same local steps,
        counted from round 1; see `algorithms.Algorithm.exchanges`.
      in_memory: whether all clients are in memory, so that all can be looked at.
      check: is called with a client's id and examples when it is in a cohort.
    """

    client_ids: Sequence[str]
    load: Callable[[str], Examples]
    specs: Mapping[str, ArraySpec]
    batching: AnyBatching = ONE_EPOCH
    roles: Mapping[str, int] | None = None
    exchanges: int = 1
    in_memory: bool = False
    check: Callable[[str, Examples], None] | None = dataclasses.field(
        default=None, compare=False, repr=False
    )

    @classmethod
    def from_arrays(
        cls, clients: Mapping[str, Examples], batching: AnyBatching = ONE_EPOCH
    ) -> ClientData:
        """Client data of arrays in memory.

        Args:
          clients: `{client id: {"x": [n, ...], "y": [n, ...]}}`; n may be 0 and may
            differ by client; trailing shapes and dtypes are equal.
          batching: divides examples into local steps.

        Raises:
          ValueError: no clients, or clients that disagree in shape, dtype or in
            the lengths of `x` and `y`.
        """
        if not clients:
            raise ValueError("client data needs at least one client, got none")
        sample = next(iter(clients.values()))
        specs = {n: ArraySpec(sample[n].shape[1:], sample[n].dtype) for n in ("x", "y")}
        for client_id, examples in clients.items():
            if len(examples["x"]) != len(examples["y"]):
                raise ValueError(
                    f"client {client_id!r} has {len(examples['x'])} rows of x but "
                    f"{len(examples['y'])} of y"
                )
            for name, spec in specs.items():
                array = ArraySpec(examples[name].shape[1:], examples[name].dtype)
                if array != spec:
                    raise ValueError(
                        f"client {client_id!r} has {name} of {array}, expected {spec}"
                    )
        return cls(tuple(clients), clients.__getitem__, specs, batching, in_memory=True)

    def __len__(self) -> int:
        return len(self.client_ids)

    def num_examples(self, client_id: str) -> int:
        """The number of examples that the client holds."""
        return len(self.load(client_id)["y"])

    def items(self) -> Iterator[tuple[str, Examples]]:
        """Every client's id and examples, loaded one after another."""
        for client_id in self.client_ids:
            yield client_id, self.load(client_id)

    def with_batching(self, batching: AnyBatching) -> ClientData:
        """The same clients with other local steps."""
        return dataclasses.replace(self, batching=batching)

    def with_roles(self, roles: Mapping[str, int]) -> ClientData:
        """The same clients with roles."""
        return dataclasses.replace(self, roles=dict(roles))

    def with_exchanges(self, exchanges: int) -> ClientData:
        """The same clients, whose local steps stay for so many rounds in a row.

        Raises:
          ValueError: a number below 1.
        """
        if exchanges < 1:
            raise ValueError(f"exchanges must be at least 1, got {exchanges}")
        return dataclasses.replace(self, exchanges=exchanges)

    def subset(self, client_ids: Sequence[str]) -> ClientData:
        """Only the named clients."""
        return dataclasses.replace(self, client_ids=tuple(client_ids))

    def cohort(
        self, client_ids: Sequence[str], *, seed: int, round_number: int
    ) -> Cohort:
        """The named clients' local steps in one round.

        A pure function of its arguments: a client's shuffles depend on (seed,
        client, round, epoch), but not on the other clients of the cohort. All rounds
        of one group of `exchanges` have the same local steps and seeds.
        """
        round_number = (round_number - 1) // self.exchanges + 1
        orders, poisson = [], []
        cached: dict[str, Examples] = {}
        loaded_bytes = 0
        seeds = np.zeros((len(client_ids), 2), np.int32)
        for row, client_id in enumerate(client_ids):
            generator = derived_generator("client", seed, client_id, round_number)
            seeds[row] = generator.integers(0, 2**31 - 1, size=2)
            examples = self.load(client_id)
            if self.check is not None:
                self.check(client_id, examples)
            loaded_bytes += sum(examples[name].nbytes for name in self.specs)
            if loaded_bytes <= _CACHE_BYTES:
                cached[client_id] = examples
            if isinstance(self.batching, PoissonBatching):
                poisson.append(self.batching.draw(len(examples["y"]), generator))
                orders.append(poisson[-1].order)
            else:
                orders.append(step_order(len(examples["y"]), self.batching, generator))

        def load(client_id: str) -> Examples:
            return cached[client_id] if client_id in cached else self.load(client_id)

        roles = None
        if self.roles is not None:
            roles = np.array([self.roles.get(i, 0) for i in client_ids], np.int32)
        return Cohort(
            tuple(client_ids),
            load,
            tuple(orders),
            seeds,
            self.specs,
            self.batching.batch_size,
            roles,
            tuple(poisson) if isinstance(self.batching, PoissonBatching) else None,
        )
