"""Cohorts: the clients of a round with their local steps."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from tfl_research.data.arrays import structures
from tfl_research.data.poisson_batching import PoissonSteps

# One client's examples: "x" and "y" (or "x/age" and so on, see `structures`), arrays
# whose first axis counts examples.
Examples = Mapping[str, np.ndarray]

# Returns the values of a member for clients, given by id: an array `[clients, ...]`.
RowLoader = Callable[[Sequence[str]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class ArraySpec:
    """Shape and dtype of one example's feature or label (no example axis)."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


_RESERVED_MEMBERS = (
    "mask",
    "num_steps",
    "num_examples",
    "seed",
    "role",
    "row_ends",
    "noise_seed",
)


@dataclasses.dataclass(frozen=True)
class Cohort:
    """The clients of a round with their local steps.

    Arrays are gathered only by `batches` (a client) or `stacked` (all clients, padded
    to a common number of steps).

    Attributes:
      client_ids: ids of the cohort's clients, in order; may be empty.
      load: returns a client's examples.
      orders: each client's int64 `[steps, batch]` example indices, -1 = padding.
      seeds: int32 `[clients, 2]`, the seed of each client's own randomness
        (dropout, local noise) in this round.
      specs: `{"x": ArraySpec, "y": ArraySpec}` of one example, by flat name.
      batch_size: examples in a minibatch.
      roles: int32 `[clients]`, see `ClientData.roles`; None for data without roles.
      poisson: each client's steps under Poisson sampling, where several rows can
        make one local step; None if every row is a step.
      members: further values of the clients, arrays `[clients, ...]` by name.
      loaders: further values that are read only when arrays are gathered (such as
        clients' states, which may be large).
      source: identifies the source of the examples. Cohorts with equal sources have the
        same examples for a client. None if the source is unknown.
    """

    client_ids: tuple[str, ...]
    load: Callable[[str], Examples]
    orders: tuple[np.ndarray, ...]
    seeds: np.ndarray
    specs: Mapping[str, ArraySpec]
    batch_size: int
    roles: np.ndarray | None = None
    poisson: tuple[PoissonSteps, ...] | None = None
    members: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    loaders: Mapping[str, RowLoader] = dataclasses.field(default_factory=dict)
    source: object = dataclasses.field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.client_ids)

    @property
    def max_steps(self) -> int:
        """The largest number of local steps of any client; 0 without clients."""
        return max((len(order) for order in self.orders), default=0)

    def batches(self, index: int) -> collections.OrderedDict[str, np.ndarray]:
        """Gathers a client's local steps.

        Returns:
          `x` `[steps, batch, ...]`, `y` `[steps, batch, ...]` and every other array of
          `specs` by its flat name, `mask` bool `[steps, batch]` (False = padding),
          `num_steps` int32 `[]` (leading steps with examples), `num_examples` int32
          `[]` (distinct examples in the steps; under Poisson sampling all examples of
          the client), `seed` int32 `[2]`, with
          roles `role` int32 `[]`, under Poisson sampling `row_ends` int32 `[steps]` and
          `noise_seed` int64 `[2]`, and the members of `with_members` and
          `with_loader`.
        """
        stacked = self.select([index]).stacked()
        return collections.OrderedDict((name, stacked[name][0]) for name in stacked)

    def with_members(self, **values: np.ndarray) -> Cohort:
        """Returns the same clients with further values.

        Args:
          values: arrays `[clients, ...]` by the member's name.

        Raises:
          ValueError: an array has another length, or a name is taken.
        """
        for name, value in values.items():
            if len(value) != len(self):
                raise ValueError(
                    f"{name} has {len(value)} rows, expected one for each of the "
                    f"{len(self)} clients"
                )
        self._check_new(values)
        return dataclasses.replace(self, members={**self.members, **values})

    def with_loader(self, name: str, load: RowLoader) -> Cohort:
        """Returns the same clients with further values that are read on demand.

        Args:
          name: the name of the member.
          load: returns the values of clients, `[clients, ...]`, by their ids.

        Raises:
          ValueError: the name is taken.
        """
        self._check_new([name])
        return dataclasses.replace(self, loaders={**self.loaders, name: load})

    def _check_new(self, names: Iterable[str]) -> None:
        used = {*_RESERVED_MEMBERS, *self.specs, *self.members, *self.loaders}
        for name in names:
            if name in used:
                raise ValueError(
                    f"the cohort's clients already have a member {name!r}; give the "
                    "new member another name"
                )

    def truncated(self, max_steps: Sequence[int]) -> Cohort:
        """Returns the same clients, each with at most `max_steps` local steps.

        This models the partial work of devices that run out of time (Li et al. 2020,
        arXiv 1812.06127, section 3).

        Args:
          max_steps: by client, at least 0; a number above a client's steps has no
            effect.

        Raises:
          ValueError: there is not one number for each client, a number is negative, or
            the clients are under Poisson sampling, where rows are not steps.
        """
        if len(max_steps) != len(self) or any(limit < 0 for limit in max_steps):
            raise ValueError(
                "max_steps must have a number of at least 0 for each of the "
                f"{len(self)} clients, got {list(max_steps)}"
            )
        if self.poisson is not None:
            raise ValueError(
                "max_steps: the local steps of Poisson sampling cannot be cut off; "
                "give the task plain batching"
            )
        orders = tuple(o[:limit] for o, limit in zip(self.orders, max_steps))
        return dataclasses.replace(self, orders=orders)

    def without_examples(self) -> Cohort:
        """Returns the same steps without examples, which are then not loaded."""
        return dataclasses.replace(self, specs={})

    def select(self, indices: Sequence[int]) -> Cohort:
        """Returns the sub-cohort of the clients at `indices`."""
        return dataclasses.replace(
            self,
            client_ids=tuple(self.client_ids[i] for i in indices),
            orders=tuple(self.orders[i] for i in indices),
            seeds=self.seeds[list(indices)].reshape(-1, 2),
            roles=None if self.roles is None else self.roles[list(indices)],
            poisson=(
                None
                if self.poisson is None
                else tuple(self.poisson[i] for i in indices)
            ),
            members={n: v[list(indices)] for n, v in self.members.items()},
        )

    def stacked(
        self, *, num_clients: int | None = None, num_steps: int | None = None
    ) -> collections.OrderedDict[str, np.ndarray]:
        """Gathers all clients' local steps in an array per name, padded with zeros.

        Text is padded with empty texts.

        Args:
          num_clients: pads with clients without examples up to this many.
          num_steps: pads with masked steps up to this many.

        Returns:
          `x` `[clients, steps, batch, ...]`, `y` likewise, and every other array of
          `specs` by its flat name, in the order of `specs`; `mask` bool
          `[clients, steps, batch]`, `num_steps` and `num_examples` int32
          `[clients]`, `seed` int32 `[clients, 2]`, with roles `role` int32 `[clients]`
          (0 for padding clients), under Poisson sampling `row_ends` int32
          `[clients, steps]` (0 for padding; see `PoissonSteps.ends`) and `noise_seed`
          int64 `[clients, 2]`, and further members (0 for padding clients).

        Raises:
          ValueError: `num_clients` or `num_steps` is below the cohort's.
        """
        clients = len(self) if num_clients is None else num_clients
        steps = self.max_steps if num_steps is None else num_steps
        if clients < len(self) or steps < self.max_steps:
            raise ValueError(
                f"cannot pad {len(self)} clients of up to {self.max_steps} steps to "
                f"{clients} clients of {steps} steps"
            )
        lead = (clients, steps, self.batch_size)
        mask = np.zeros(lead, bool)
        for row, order in enumerate(self.orders):
            np.greater_equal(order, 0, out=mask[row, : len(order)])
        result: collections.OrderedDict[str, np.ndarray] = collections.OrderedDict(
            (name, structures.blank(lead + tuple(spec.shape), spec.dtype))
            for name, spec in self.specs.items()
        )
        for row, (client_id, order) in enumerate(zip(self.client_ids, self.orders)):
            if not result:
                break
            examples = self.load(client_id)
            real = mask[row, : len(order)]
            for name, array in result.items():
                array[row, : len(order)][real] = examples[name][order[real]]
        seeds = np.zeros((clients, 2), np.int32)
        seeds[: len(self)] = self.seeds
        num_examples = np.zeros((clients,), np.int32)
        for row, order in enumerate(self.orders):
            num_examples[row] = len(np.unique(order[mask[row, : len(order)]]))
        if self.poisson is not None:
            # The number of drawn examples must not leave the client.
            num_examples[: len(self)] = [steps.num_examples for steps in self.poisson]
        result["mask"] = mask
        result["num_steps"] = np.zeros((clients,), np.int32)
        result["num_steps"][: len(self)] = [len(order) for order in self.orders]
        result["num_examples"] = num_examples
        result["seed"] = seeds
        if self.roles is not None:
            result["role"] = np.zeros((clients,), np.int32)
            result["role"][: len(self)] = self.roles
        if self.poisson is not None:
            result["row_ends"] = np.zeros((clients, steps), np.int32)
            result["noise_seed"] = np.zeros((clients, 2), np.int64)
            for row, poisson_steps in enumerate(self.poisson):
                ends = poisson_steps.ends
                result["row_ends"][row, : len(ends)] = ends
                result["noise_seed"][row] = poisson_steps.noise_seed
        loaded = {name: load(self.client_ids) for name, load in self.loaders.items()}
        for name, value in {**self.members, **loaded}.items():
            result[name] = np.zeros((clients, *value.shape[1:]), value.dtype)
            result[name][: len(self)] = value
        return result
