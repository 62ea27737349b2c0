"""Client data: examples by client, lazily loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Union

import numpy as np

from tfl_research.data.arrays import structures
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

# Number of bytes of examples that a cohort keeps between counting and gathering them.
# Examples beyond this limit are loaded twice, so memory does not grow with the cohort.
_CACHE_BYTES = 8 * 2**20


@dataclasses.dataclass(frozen=True)
class ClientData:
    """Examples by client; loading is lazy, so unsampled clients cost nothing.

    Attributes:
      client_ids: ids of all clients, in a fixed order.
      load: returns a client's examples; must be a pure function of the id.
      specs: `{"x": ArraySpec, "y": ArraySpec}` of an example; the names are flat, see
        `data.arrays.structures`.
      batching: divides examples into local steps in `cohort`.
      roles: an int above 0 by client id for clients with another role than honest
        training (an attacker, a canary); 0 for other clients. If not None, even if
        empty, every client of a cohort has a member `role`.
      exchanges: number of rounds in a row in which a client has the same local steps,
        counted from round 1; see `algorithms.Algorithm.exchanges`.
      in_memory: whether all clients are in memory, so that all can be looked at.
      check: a function that is called with the id and the examples of each client in a
        cohort.
      holders: if the first `holders` clients together hold all examples, the other
        clients hold some of these examples again. None if each client holds its own
        examples.
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
    holders: int | None = None

    @classmethod
    def from_arrays(
        cls, clients: Mapping[str, Examples], batching: AnyBatching = ONE_EPOCH
    ) -> ClientData:
        """Makes client data of arrays in memory.

        Args:
          clients: `{client id: {"x": [n, ...], "y": [n, ...]}}`, with flat names as
            "x/age" (see `arrays.structures`); n may be 0 and may differ by client;
            names, trailing shapes and dtypes are equal.
          batching: divides examples into local steps.

        Raises:
          ValueError: there are no clients, a name is not allowed for an array of
            examples, or clients disagree in names, shape, dtype or in the lengths of
            their arrays.
        """
        if not clients:
            raise ValueError("client data needs at least one client, got none")
        first, sample = next(iter(clients.items()))
        for name in sample:
            if not structures.is_example_array(name):
                raise ValueError(
                    f"client {first!r}: unknown array {name!r}; expected x, y, x/NAME, "
                    f"y/NAME and {structures.SAMPLE_WEIGHT}"
                )
        specs = specs_of(sample)
        for client_id, examples in clients.items():
            check_fits(client_id, examples, specs)
        return cls(tuple(clients), clients.__getitem__, specs, batching, in_memory=True)

    def __len__(self) -> int:
        return len(self.client_ids)

    @property
    def here(self) -> Sequence[str]:
        """The clients whose examples can be loaded here: all clients."""
        return self.client_ids

    def num_examples(self, client_id: str) -> int:
        """Returns the number of examples that the client holds."""
        return structures.num_examples(self.load(client_id))

    def items(self) -> Iterator[tuple[str, Examples]]:
        """Yields every client's id and examples; loads one client after another."""
        for client_id in self.client_ids:
            yield client_id, self.load(client_id)

    def different_items(self) -> Iterator[tuple[str, Examples]]:
        """Yields clients' ids and examples; yields shared examples only once."""
        for client_id in self.client_ids[: self.holders]:
            yield client_id, self.load(client_id)

    def with_batching(self, batching: AnyBatching) -> ClientData:
        """Returns the same clients with other local steps."""
        return dataclasses.replace(self, batching=batching)

    def with_roles(self, roles: Mapping[str, int]) -> ClientData:
        """Returns the same clients with roles."""
        return dataclasses.replace(self, roles=dict(roles))

    def with_exchanges(self, exchanges: int) -> ClientData:
        """Returns the clients with the same local steps in `exchanges` rounds in a row.

        Raises:
          ValueError: `exchanges` is below 1.
        """
        if exchanges < 1:
            raise ValueError(f"exchanges must be at least 1, got {exchanges}")
        return dataclasses.replace(self, exchanges=exchanges)

    def subset(self, client_ids: Sequence[str]) -> ClientData:
        """Returns only the named clients."""
        return dataclasses.replace(self, client_ids=tuple(client_ids), holders=None)

    def cohort(
        self, client_ids: Sequence[str], *, seed: int, round_number: int
    ) -> Cohort:
        """Makes the named clients' local steps in a round.

        This is a pure function of its arguments: a client's shuffles depend on (seed,
        client, round, epoch), but not on the other clients of the cohort. All rounds
        of a group of `exchanges` rounds have the same local steps and seeds.
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
            size = structures.num_examples(examples)
            if isinstance(self.batching, PoissonBatching):
                poisson.append(self.batching.draw(size, generator))
                orders.append(poisson[-1].order)
            else:
                orders.append(step_order(size, self.batching, generator))

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
            source=self.load,
        )


def specs_of(examples: Examples) -> dict[str, ArraySpec]:
    """Returns shape and dtype of each array, in the order of `structures.ordered`."""
    return {
        name: ArraySpec(examples[name].shape[1:], examples[name].dtype)
        for name in structures.ordered(examples)
    }


def check_fits(
    client_id: str,
    examples: Examples,
    specs: Mapping[str, ArraySpec],
    others: str = "the clients before",
) -> None:
    """Raises ValueError unless the client's arrays have these names and specs.

    The error names the client and the array, and says both lengths if they differ.

    Args:
      client_id: the client.
      examples: its arrays.
      specs: the expected specs.
      others: names the data whose specs these are, for the error.
    """
    for names, other, verb in ((specs, examples, "lacks"), (examples, specs, "has")):
        for name in names:
            if name not in other:
                raise ValueError(
                    f"client {client_id!r} {verb} the array {name!r}; expected "
                    f"{', '.join(specs)}"
                )
    first = next(iter(specs))
    for name, spec in specs.items():
        array = ArraySpec(examples[name].shape[1:], examples[name].dtype)
        if array != spec:
            raise ValueError(
                f"client {client_id!r} has {name} of {array}, expected {spec} as in "
                f"{others}; give all clients arrays of one type and shape"
            )
        if len(examples[name]) != len(examples[first]):
            raise ValueError(
                f"client {client_id!r} has {len(examples[first])} rows of {first} but "
                f"{len(examples[name])} of {name}; give every array one row for each "
                "example"
            )
