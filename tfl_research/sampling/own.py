"""Samplers of a user's own: their base class, registry and cohorts."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar, Optional

import numpy as np

from tfl_research.errors import SettingError, users_line
from tfl_research.registry import SettingsRegistry
from tfl_research.sampling.amplification import Amplification
from tfl_research.sampling.cohort_sizes import WholeCohorts, check_round, pick
from tfl_research.settings import NamedSettings

# The names of the toolkit's samplers in settings and mechanisms.
NAMES = (
    "poisson",
    "fixed",
    "shuffled",
    "full",
    "min_separation",
    "cyclic_poisson",
)
# A mechanism must cover both to cover a sampler of a user's own: a client can take part
# in every round, and one client's data are replaced.
ACCOUNTED_LIKE = ("full", "shuffled")
# Number of cohorts that are compared when a run is resumed.
_COMPARED = 10


@dataclasses.dataclass(frozen=True)
class SamplerSettings(NamedSettings):
    """Base class of samplers of your own: name, parameters and the draw of a cohort.

    A subclass is a frozen dataclass whose fields are the parameters.
    `sampling.register` makes the sampler available by its NAME.

    The toolkit does not know what the draws have in common. So a run with user-level
    privacy is charged without amplification, as if each client could take part in every
    round, for neighbours that differ in one client's data.

    Attributes:
      FIXED_SIZE: whether every cohort has exactly `cohort_size` clients; otherwise, a
        cohort can have fewer.

    Example:
      >>> import dataclasses
      >>> import numpy as np
      >>> @tfl.sampling.register
      ... @dataclasses.dataclass(frozen=True)
      ... class InTurn(tfl.sampling.SamplerSettings):
      ...     NAME = "in_turn"
      ...     SUMMARY = "a random client and those behind it"
      ...     step: int = tfl.settings.integer(1, "Distance of clients.", minimum=1)
      ...
      ...     def draw(self, client_ids, cohort_size, seed, round_number):
      ...         first = np.random.default_rng((seed, round_number)).integers(99)
      ...         places = first + self.step * np.arange(cohort_size)
      ...         return places % len(client_ids)
      >>> cohorts = tfl.Cohorts(InTurn(step=3), cohort_size=2)
      >>> tfl.Experiment("mnist", cohorts=cohorts).flat()["step"]
      3
    """

    TITLE: ClassVar[str] = "Cohort"
    FIXED_SIZE: ClassVar[bool] = True

    def draw(
        self, client_ids: Sequence[str], cohort_size: int, seed: int, round_number: int
    ) -> Sequence[int]:
        """Returns the positions of the round's clients in `client_ids`.

        The result must depend on nothing but the arguments and the parameters, since a
        resumed run draws its cohorts again.

        Args:
          client_ids: the population.
          cohort_size: the number of clients.
          seed: a whole number, at least 0. In a private run it is secret.
          round_number: the round's number; rounds are numbered from 1.
        """
        raise NotImplementedError(f"{type(self).__name__}.draw")


class SamplerRegistry(SettingsRegistry[SamplerSettings]):
    """Maps names to samplers of users' own."""

    def add(self, chosen: type[SamplerSettings]) -> type[SamplerSettings]:
        """Adds a sampler, under its NAME, and returns it.

        Raises:
          ValueError: the name is missing, taken, or the name of the toolkit's sampler.
        """
        if chosen.NAME in NAMES:
            raise ValueError(
                f"a sampler named {chosen.NAME!r} is already registered; give this "
                "sampler another name"
            )
        return super().add(chosen)


# The samplers that users registered, by name.
OWN_SAMPLERS = SamplerRegistry("sampler")
register = OWN_SAMPLERS.add


def names() -> tuple[str, ...]:
    """Returns the names of all samplers, first those of the toolkit."""
    return (*NAMES, *OWN_SAMPLERS.names())


@dataclasses.dataclass(frozen=True)
class OwnCohorts(WholeCohorts):
    """The cohorts of a sampler of a user's own, checked and without amplification.

    Attributes:
      client_ids: the population.
      cohort_size: a whole number of at least 1 and at most the population.
      seed: the seed of the draws.
      settings: the sampler with its parameters.

    Raises:
      ValueError: there are no clients, or the cohort size is out of range.
    """

    settings: SamplerSettings

    def sample(self, round_number: int) -> tuple[str, ...]:
        """The distinct ids of the round's cohort, in population order.

        Raises:
          SettingError: the sampler does not return distinct positions of clients, or
            not as many as it may.
        """
        check_round(round_number)
        size = int(self.cohort_size)
        try:
            drawn = self.settings.draw(self.client_ids, size, self._seed, round_number)
        except Exception as error:  # Of a user's function: any.
            text = next(iter(str(error).splitlines()), "")
            raise self._refused(
                f"round {round_number}: failed ({type(error).__name__}: {text:.200}"
                f"{users_line(error)})"
            ) from error
        return pick(self.client_ids, self._checked(drawn, round_number))

    @property
    def _seed(self) -> int:
        """A seed that NumPy takes, whatever the run's seed is."""
        text = f"cohort {self.settings.NAME} {self.seed}".encode()
        return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")

    def _checked(self, drawn: Any, round_number: int) -> np.ndarray:
        try:
            positions = np.asarray(drawn)
        except ValueError:  # Lists of different lengths.
            positions = np.zeros((1, 1))
        if positions.shape == (0,):
            positions = positions.astype(np.int64)
        why = self._problem(positions, drawn)
        if why is not None:
            raise self._refused(f"round {round_number}: {why}")
        return positions

    def _problem(self, positions: np.ndarray, drawn: Any) -> Optional[str]:
        """Says what is wrong with drawn positions; None if nothing is."""
        last, size = len(self.client_ids) - 1, int(self.cohort_size)
        if positions.ndim != 1 or positions.dtype.kind not in "iu":
            shown = " ".join(repr(drawn).split())
            return f"expected a list of positions in client_ids, got {shown:.80}"
        outside = positions[(positions < 0) | (positions > last)]
        if len(outside):
            return f"expected positions from 0 to {last}, got {outside[0]}"
        values, counts = np.unique(positions, return_counts=True)
        if len(values) < len(positions):
            return (
                f"position {values[counts > 1][0]} is there twice; draw a client once"
            )
        if len(positions) > size:
            return f"expected {size} clients, got {len(positions)}"
        if len(positions) < size and self.settings.FIXED_SIZE:
            return (
                f"expected {size} clients, got {len(positions)}; if cohorts may be "
                "smaller, set FIXED_SIZE = False"
            )
        return None

    def _refused(self, why: str) -> SettingError:
        settings = self.settings
        return SettingError(
            f"--sampler={settings.NAME}: {type(settings).__name__}.draw, {why}"
        )

    @property
    def minimum_cohort_size(self) -> int:
        """The cohort size, or 0 for a sampler whose cohorts can be smaller."""
        return int(self.cohort_size) if self.settings.FIXED_SIZE else 0

    @property
    def amplification(self) -> Amplification:
        """No amplification, under replace-one: draws may depend on the population."""
        population = len(self.client_ids)
        return Amplification(
            "none",
            self.cohort_size / population,
            population,
            self.expected_cohort_size,
            "replace_one",
        )

    def digest(self) -> str:
        """Returns the SHA-256 of the first cohorts.

        A run's record has the digest, so that no run resumes with other draws.

        Raises:
          SettingError: a draw is wrong, see `sample`, or differs when it is repeated.
        """
        if self.sample(1) != self.sample(1):
            raise self._refused(
                "round 1: draws other clients when it is repeated, so no run could be "
                "resumed; draw by np.random.default_rng((seed, round_number))"
            )
        found = hashlib.sha256()
        for number in range(1, _COMPARED + 1):
            found.update("\0".join([*self.sample(number), "\n"]).encode())
        return found.hexdigest()
