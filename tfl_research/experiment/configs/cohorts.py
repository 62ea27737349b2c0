"""Settings for the clients of a round, and for the weight of each client."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Optional

from tfl_research import sampling, settings
from tfl_research.errors import SettingError, alternatives
from tfl_research.sampling import OWN_SAMPLERS, SamplerSettings
from tfl_research.settings import Settings, declared

_DEFAULT_COHORT_SIZE = 10


@dataclasses.dataclass(frozen=True)
class Cohorts(Settings):
    """The selection of the clients of a round.

    `sampler` may also be the settings of a sampler of your own, see
    `sampling.SamplerSettings`.

    Attributes:
      own: the settings of a sampler of your own, with its parameters; the default
        parameters when only its name is given.

    Example:
      >>> tfl.Experiment("mnist", cohorts=tfl.Cohorts("fixed", cohort_size=20)).check()
      >>> apart = tfl.Cohorts("min_separation", cohort_size=10, min_separation=5)
      >>> tfl.Experiment("mnist", cohorts=apart).check()
    """

    TITLE: ClassVar[str] = "Cohort"

    sampler: Optional[str] = settings.choice(
        None,
        "Which clients a round has. poisson (the default with user-level privacy): "
        "every client joins independently. fixed (the default without privacy): a "
        "random subset of one size. shuffled: slices of a random order. full (the "
        "default with record-level privacy): all clients. min_separation: a fixed "
        "size, with at least --min_separation rounds between two rounds of a client. "
        "cyclic_poisson: each client has its turn every --min_separation rounds, and "
        "then joins independently. Or a sampler of your own.",
        sampling.names,
    )
    cohort_size: Optional[float] = settings.real(
        None,
        "Clients in a round; for poisson and cyclic_poisson the average. When not "
        f"given {_DEFAULT_COHORT_SIZE}, or all clients if there are fewer.",
        above=0,
    )
    min_separation: Optional[int] = settings.integer(
        None,
        "Smallest number of rounds from one participation of a client to its next. "
        "For min_separation the largest possible when not given.",
        minimum=1,
    )
    own: Optional[SamplerSettings] = None

    def __post_init__(self) -> None:
        sampler: Any = self.sampler
        if isinstance(sampler, SamplerSettings):
            object.__setattr__(self, "own", OWN_SAMPLERS.resolve(sampler))
            object.__setattr__(self, "sampler", sampler.NAME)
        super().__post_init__()

    def check(self) -> None:
        own = self.own
        if self.sampler not in OWN_SAMPLERS:
            own = None
        elif own is None or self.sampler != own.NAME:
            # Another sampler than before has its default parameters.
            own = OWN_SAMPLERS.resolve(str(self.sampler))
        object.__setattr__(self, "own", own)
        separates = self.sampler in ("min_separation", "cyclic_poisson")
        if self.min_separation is not None and not separates:
            raise self.refused(
                "min_separation",
                "goes with --sampler=min_separation or cyclic_poisson; leave it out",
            )
        if self.sampler == "cyclic_poisson" and self.min_separation is None:
            raise SettingError("--sampler=cyclic_poisson: needs --min_separation too")
        size = self.cohort_size
        if size is None:
            return
        if self.sampler == "full":
            raise self.refused(
                "cohort_size", "--sampler=full takes every client; leave it out"
            )
        whole = self.sampler not in (None, "poisson", "cyclic_poisson")
        if whole and size != int(size):
            raise self.refused(
                "cohort_size", f"must be a whole number for --sampler={self.sampler}"
            )

    def flat(self) -> dict[str, Any]:
        """Returns the settings by name, and the parameters of your own sampler."""
        return {**super().flat(), **({} if self.own is None else self.own.flat())}

    def changed_from(self) -> dict[str, Any]:
        """Returns the default of each setting that has another value, by name."""
        own = {} if self.own is None else self.own.changed_from()
        return {**super().changed_from(), **own}

    def with_changes(self, changes: Mapping[str, Any]) -> Cohorts:
        """Returns cohorts with other values; a new sampler has its own parameters.

        Args:
          changes: values by the settings' names.

        Raises:
          SettingError: a value is refused, or belongs to another sampler.
        """
        kept = self.flat() if "sampler" not in changes else super().flat()
        return type(self).from_flat({**kept, **changes})

    @classmethod
    def from_flat(cls: type[Cohorts], values: Mapping[str, Any]) -> Cohorts:
        names = {field.name for field in declared(cls)}
        given = {name: values[name] for name in names & set(values)}
        parameters = OWN_SAMPLERS.parameters()
        further = {name: values[name] for name in parameters if name in values}
        if given.get("sampler") in OWN_SAMPLERS:
            chosen = {OWN_SAMPLERS.setting: given["sampler"], **further}
            given["sampler"] = OWN_SAMPLERS.from_flat(chosen)
        else:
            for name, value in further.items():
                if value not in (None, ()):
                    raise SettingError(
                        f"--{name}={value}: goes with "
                        f"--sampler={alternatives(parameters[name])} only; leave it out"
                    )
        return cls(**given)

    def build(self, client_ids: Sequence[str], seed: int) -> sampling.Sampler:
        """Makes the sampler of a population.

        Args:
          client_ids: the population.
          seed: the seed of the draws.

        Raises:
          SettingError: the cohort is larger than the population, or the population is
            too small for the separation.
        """
        population = len(client_ids)
        if self.sampler == "full":
            return sampling.Full(client_ids)
        size = self.cohort_size
        if size is None:
            size = min(_DEFAULT_COHORT_SIZE, population)
        if size > population:
            raise self.refused(
                "cohort_size", f"there are {population} clients; give at most that many"
            )
        if self.own is not None:
            return sampling.OwnCohorts(client_ids, int(size), seed, self.own)
        if self.sampler == "poisson":
            return sampling.Poisson(client_ids, size, seed)
        if self.sampler == "fixed":
            return sampling.FixedSize(client_ids, int(size), seed)
        if self.sampler == "shuffled":
            return sampling.Shuffled(client_ids, int(size), seed)
        return self._build_separated(client_ids, size, seed)

    def digest(self, client_ids: Sequence[str], seed: int) -> dict[str, str]:
        """Returns what a run's record keeps of the draws of a sampler of your own.

        Args:
          client_ids: the population.
          seed: a public seed, so that the result says nothing about secret cohorts.
        """
        built = self.build(client_ids, seed)
        if not isinstance(built, sampling.OwnCohorts):
            return {}
        return {"cohorts_sha256": built.digest()}

    def _build_separated(
        self, client_ids: Sequence[str], size: float, seed: int
    ) -> sampling.Sampler:
        largest = int(len(client_ids) / size)
        separation = self.min_separation
        if separation is not None and separation > largest:
            raise self.refused(
                "min_separation",
                f"{len(client_ids)} clients, {size:g} a round, can be at most "
                f"{largest} rounds apart; give at most that, or a smaller "
                "--cohort_size",
            )
        if self.sampler == "min_separation":
            return sampling.MinSeparation(client_ids, int(size), seed, separation)
        return sampling.CyclicPoisson(client_ids, size, seed, int(separation or 1))


@dataclasses.dataclass(frozen=True)
class Weighting(Settings):
    """The weight of each client's update in the mean.

    Example:
      >>> weighting = tfl.Weighting("capped", weight_cap=100)
      >>> tfl.Experiment("heart", weighting=weighting).check()
    """

    TITLE: ClassVar[str] = "Client weights"

    client_weighting: Optional[str] = settings.choice(
        None,
        "Weight of a client in the mean. examples (the default): the number of "
        "examples n. uniform (the default with user-level privacy and for algorithms "
        "that need it): the same for all. capped: min(n/cap, 1).",
        ("uniform", "examples", "capped"),
    )
    weight_cap: Optional[float] = settings.real(
        None,
        "Number of examples from which on a client has the full weight; needed by "
        "capped.",
        above=0,
    )

    def check(self) -> None:
        if self.client_weighting == "capped" and self.weight_cap is None:
            raise SettingError("--client_weighting=capped: needs --weight_cap too")
        if self.client_weighting != "capped" and self.weight_cap is not None:
            raise self.refused(
                "weight_cap", "goes with --client_weighting=capped only; leave it out"
            )
