"""Canary clients; a fair coin for each decides whether it takes part."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tfl_research.data import ClientData, derived_generator, structures

# Statistics of the releases: see `CanaryObserver` and `canary_directions.cosines`.
STATISTICS = ("mean", "max", "final")
# See `sabotage.sabotaged`.
SABOTAGES = ("none", "noise_off", "clip_off", "weights_uncapped")
_PREFIX = "canary-"


class _Samples(Protocol):
    def sample(self, round_number: int) -> Sequence[str]: ...


@dataclasses.dataclass(frozen=True)
class Canaries:
    """Clients that an audit adds to a population.

    Canary j (from 1) sends its own random direction in every round with the canary in
    the cohort, if its coin decides so. The other canaries are the comparison. Coins and
    directions are functions of `seed`; cohorts and noise do not depend on `seed`.

    Attributes:
      count: canaries, at least 2.
      seed: the seed of coins and directions.

    Raises:
      ValueError: fewer than 2.
    """

    count: int
    seed: int

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError(f"an audit needs at least 2 canaries, got {self.count}")

    @property
    def client_ids(self) -> tuple[str, ...]:
        """Ids in the order of j."""
        width = len(str(self.count))
        return tuple(f"{_PREFIX}{j:0{width}d}" for j in range(1, self.count + 1))

    @property
    def included(self) -> np.ndarray:
        """bool `[count]`: the coins, fair and independent."""
        generator = derived_generator("canary coins", self.seed)
        return generator.integers(2, size=self.count).astype(bool)

    @property
    def roles(self) -> Mapping[str, int]:
        """The role of each canary, by client id: j if canary j takes part, else -j."""
        signs = np.where(self.included, 1, -1)
        return {
            name: int(sign) * j
            for j, (name, sign) in enumerate(zip(self.client_ids, signs), start=1)
        }

    @property
    def excluded_ids(self) -> frozenset[str]:
        """Ids of the canaries that do not take part."""
        return frozenset(name for name, role in self.roles.items() if role < 0)

    def join(self, clients: ClientData) -> ClientData:
        """The clients, followed by the canaries, which hold no examples.

        Raises:
          ValueError: a client has the id of a canary, or a role already.
        """
        conflicting = set(clients.client_ids) & set(self.client_ids)
        if conflicting or clients.roles:
            raise ValueError(
                "canaries need client data without roles and without clients called "
                f"{_PREFIX}…, got {sorted(conflicting)[:1] or 'roles'}"
            )
        canaries = frozenset(self.client_ids)
        empty = structures.no_examples(clients.specs)
        load = clients.load
        return dataclasses.replace(
            clients,
            client_ids=(*clients.client_ids, *self.client_ids),
            holders=None,
            load=lambda name: empty if name in canaries else load(name),
            roles=self.roles,
        )

    def sampler(self, sampler: _Samples, neighbouring_relation: str) -> Any:
        """The sampler of the audited run.

        Under add-or-remove-one, canaries that do not take part are removed from the
        cohorts that `sampler` draws, as if they were not in the population; the
        sampling rate is the same. Under the other relations these canaries stay, and
        `CanaryWork` has them send zeros.
        """
        if neighbouring_relation != "add_or_remove_one":
            return sampler
        return WithoutExcluded(sampler, self.excluded_ids)


@dataclasses.dataclass(frozen=True)
class WithoutExcluded:
    """A sampler's cohorts without some of the clients.

    Attributes:
      sampler: draws the cohorts.
      excluded: ids of the clients that are left out.
    """

    sampler: _Samples
    excluded: frozenset[str]

    def sample(self, round_number: int) -> Sequence[str]:
        """The round's client ids, in the sampler's order."""
        return tuple(
            name
            for name in self.sampler.sample(round_number)
            if name not in self.excluded
        )
