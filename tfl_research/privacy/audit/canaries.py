"""Canary clients of an audit; a fair coin decides whether a canary takes part."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tfl_research.data import ClientData, derived_generator
from tfl_research.data.arrays import structures

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

    If the coin of canary j (from 1) says so, the canary sends its own random direction
    in every round in which the cohort has the canary. The canaries that do not take
    part are the comparison. Coins and directions are functions of `seed`; cohorts and
    noise do not depend on `seed`.

    Attributes:
      count: number of canaries, at least 2.
      seed: the seed of coins and directions.

    Raises:
      ValueError: the count is below 2.
    """

    count: int
    seed: int

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError(f"an audit needs at least 2 canaries, got {self.count}")

    @property
    def client_ids(self) -> tuple[str, ...]:
        """The canaries' ids in the order of j."""
        width = len(str(self.count))
        return tuple(f"{_PREFIX}{j:0{width}d}" for j in range(1, self.count + 1))

    @property
    def included(self) -> np.ndarray:
        """Tosses the fair, independent coins, bool `[count]`."""
        generator = derived_generator("canary coins", self.seed)
        return generator.integers(2, size=self.count).astype(bool)

    @property
    def roles(self) -> Mapping[str, int]:
        """Maps each canary's id to its role: j if canary j takes part, otherwise -j."""
        signs = np.where(self.included, 1, -1)
        return {
            name: int(sign) * j
            for j, (name, sign) in enumerate(zip(self.client_ids, signs), start=1)
        }

    @property
    def excluded_ids(self) -> frozenset[str]:
        """The ids of the canaries that do not take part."""
        return frozenset(name for name, role in self.roles.items() if role < 0)

    def join(self, clients: ClientData) -> ClientData:
        """Returns the clients, followed by the canaries, which hold no examples.

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
        """Returns the sampler of the audited run.

        Under add-or-remove-one, canaries that do not take part are removed from the
        cohorts that `sampler` draws, as if they were not in the population. The
        sampling rate does not change. Under the other relations, these canaries stay in
        the cohorts, and `CanaryWork` makes them send zeros.
        """
        if neighbouring_relation != "add_or_remove_one":
            return sampler
        return WithoutExcluded(sampler, self.excluded_ids)


@dataclasses.dataclass(frozen=True)
class WithoutExcluded:
    """Draws a sampler's cohorts, and leaves out some of the clients.

    Attributes:
      sampler: draws the cohorts.
      excluded: ids of the clients that are left out.
    """

    sampler: _Samples
    excluded: frozenset[str]

    def sample(self, round_number: int) -> Sequence[str]:
        """Returns the round's client ids, in the sampler's order."""
        return tuple(
            name
            for name in self.sampler.sample(round_number)
            if name not in self.excluded
        )
