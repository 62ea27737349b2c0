"""The base classes of events: what a round releases, as data for the accountants."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import TYPE_CHECKING, Any, ClassVar, Optional

import numpy as np

if TYPE_CHECKING:
    from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent

ACCOUNTANTS = ("pld", "rdp")
# Limits far beyond useful values, whose squares neither overflow nor become 0.
SMALLEST_NOISE_MULTIPLIER, LARGEST_NOISE_MULTIPLIER = 1e-100, 1e6


class Event(abc.ABC):
    """Base class of events: data that describe what a round releases.

    All rounds of a run have the same event. Subclasses are frozen dataclasses whose
    fields are JSON values or tuples of JSON values. Equal events mean equal rounds.
    Ledgers keep events for years, so a class must keep three rules:

    - a registered kind is never removed, and its fields are never renamed;
    - a new field has a default, which describes the rounds of older ledgers;
    - a change of the fields does not change the ε of older ledgers.

    Register your own class with `register_event`, in a module that the readers of its
    ledgers can import. Events with a noise multiplier derive from `NoisedEvent`.

    Attributes:
      kind: the name in ledgers, unique.
      composes_by_round: whether n rounds of one run and m rounds of another cost as
        much as n + m rounds of one run; False for correlated noise.
      noised_by_clients: whether clients noise their updates, so that an update is
        released as soon as it reaches the server, even if the round is abandoned.
      releases_integers: whether releases are integers. The low-order bits of integers
        reveal nothing about the noise generator.
      is_search: whether the event is a hyperparameter search with all its runs.

    Example, rounds of zero-concentrated privacy (Bun and Steinke 2016), which add up:
      >>> import dataclasses
      >>> from typing import ClassVar
      >>> import numpy as np
      >>> @tfl.privacy.register_event
      ... @dataclasses.dataclass(frozen=True)
      ... class ZcdpEvent(tfl.privacy.NoisedEvent):
      ...     kind: ClassVar[str] = "zcdp"
      ...     noise_multiplier: float
      ...     neighbouring_relation: str = "zero_out"
      ...
      ...     def rdp(self, rounds, orders):
      ...         return rounds * np.asarray(orders) / (2 * self.noise_multiplier**2)
      ...
      ...     def epsilon_curve(self, rounds, delta, accountant):
      ...         rho = np.arange(1, rounds + 1) / (2 * self.noise_multiplier**2)
      ...         return rho + 2 * np.sqrt(rho * np.log(1 / delta))
      ...
      ...     def description(self):
      ...         return [f"1 / (2 z²)-zCDP a round, z = {self.noise_multiplier:g}."]
      >>> event = ZcdpEvent(4.0)
      >>> tfl.privacy.event_from_dict(event.to_dict()) == event
      True
      >>> event.epsilon(100, 1e-5, "rdp")
      15.1...
    """

    kind: ClassVar[str]
    composes_by_round: ClassVar[bool] = False
    noised_by_clients: ClassVar[bool] = False
    releases_integers: ClassVar[bool] = False
    is_search: ClassVar[bool] = False

    if TYPE_CHECKING:
        # Subclasses define a field or a property. If this property existed at run time,
        # it would become the default of the subclass' field.
        @property
        def neighbouring_relation(self) -> str:
            """The neighbouring relation, see `sampling.Amplification`."""

    @property
    def unit(self) -> str:
        """The unit of privacy: "client" (the default) or "record"."""
        return "client"

    @property
    def accountants(self) -> tuple[str, ...]:
        """The accountants that apply, the tightest first; by default "rdp"."""
        return ("rdp",)

    @property
    def noise(self) -> Optional[float]:
        """The noise multiplier; 0 means no privacy (ε = inf).

        The result is None if the event has no noise multiplier.
        """
        return None

    @property
    def rate(self) -> Optional[float]:
        """A client's probability of taking part in a round; None by default."""
        return None

    @property
    def num_clients(self) -> Optional[int]:
        """The number of clients that could take part; None if not known."""
        return None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The event's own kind, and the kinds of the events in its fields."""
        return (self.kind,)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields by name as JSON values, and "kind"."""
        return fields_of(self)

    def with_noise(self, noise_multiplier: float) -> Event:
        """Returns the event with another noise multiplier.

        Raises:
          ValueError: the event has no noise multiplier.
        """
        del noise_multiplier
        raise ValueError(
            f"a {self.kind} event has no noise multiplier that a search could choose"
        )

    @abc.abstractmethod
    def rdp(self, rounds: int, orders: np.ndarray) -> np.ndarray:
        """Computes Rényi divergences of rounds 1 to `rounds` together, in nats.

        Args:
          rounds: at least 1. The divergence need not be linear in `rounds`.
          orders: float64 `[orders]`, above 1.

        Returns:
          float64 `[orders]`; inf where there is no bound.
        """

    @abc.abstractmethod
    def epsilon_curve(self, rounds: int, delta: float, accountant: str) -> np.ndarray:
        """Computes ε after 1, 2, ..., `rounds` rounds, float64 `[rounds]`.

        The values do not decrease. A shorter curve is the beginning of a longer curve,
        to the last bit.

        Raises:
          ValueError: the accountant does not apply; the message names the accountants
            that apply.
        """

    @abc.abstractmethod
    def description(self) -> list[str]:
        """Returns sentences for a privacy statement.

        The sentences name the mechanism with its paper, the noised values, and the
        assumptions on sampling or participation.
        """

    def epsilon(self, rounds: int, delta: float, accountant: str) -> float:
        """Returns the last value of `epsilon_curve`; subclasses may be faster.

        Raises:
          ValueError: the accountant does not apply.
        """
        return float(self.epsilon_curve(rounds, delta, accountant)[-1])

    def effective_noise_multiplier(self, rounds: int) -> Optional[float]:
        """Returns noise over sensitivity if all rounds are one Gaussian, else None."""
        del rounds
        return None

    def as_gaussian_rounds(self, rounds: int) -> Optional[tuple[GaussianEvent, int]]:
        """Returns a Gaussian event and a number of its rounds with the same cost.

        The result is None if the rounds do not cost the same as rounds of a Gaussian
        event.
        """
        del rounds
        return None

    def as_pure_rounds(self, rounds: int) -> Optional[tuple[float, int]]:
        """Returns ε of a mechanism of pure DP, and a number of uses with the same cost.

        The result is None if the rounds do not cost the same as such a mechanism.
        """
        del rounds
        return None

    def zcdp(self, rounds: int) -> Optional[float]:
        """Computes ρ of zero-concentrated differential privacy of rounds 1 to `rounds`.

        The result is None if there is no bound. By default, ρ = 1 / (2 z²) if all
        rounds are one Gaussian with noise over sensitivity z (Bun and Steinke 2016,
        arXiv 1605.02065, Lemma 2.4).
        """
        noise = self.effective_noise_multiplier(rounds)
        if noise is None:
            return None
        return 1 / (2 * noise**2) if noise > 0 else math.inf


class NoisedEvent(Event):
    """An event with a field `noise_multiplier`, which can be calibrated.

    Attributes:
      noise_multiplier: standard deviation of the noise over the l2 norm clip; 0 means
        no privacy (ε = inf).

    Example:
      >>> event = tfl.privacy.GaussianEvent.poisson(1.0, sampling_rate=0.01)
      >>> event.noise, event.with_noise(2.0).noise
      (1.0, 2.0)
    """

    noise_multiplier: float

    @property
    def noise(self) -> Optional[float]:
        return self.noise_multiplier

    def with_noise(self, noise_multiplier: float) -> Event:
        event: Any = self
        changed: Event = dataclasses.replace(event, noise_multiplier=noise_multiplier)
        return changed


def fields_of(event: Any) -> dict[str, Any]:
    """Returns "kind" and the fields of a dataclass, as `Event.to_dict` does."""
    return {"kind": event.kind, **dataclasses.asdict(event)}


def check_accountant(event: Event, accountant: str) -> None:
    """Checks that an accountant applies to the event.

    Raises:
      ValueError: the accountant does not apply.
    """
    if accountant not in event.accountants:
        fitting = " or ".join(map(repr, event.accountants))
        raise ValueError(
            f"accountant {accountant!r} has no bound for a {event.kind!r} event with "
            f"this sampling: use {fitting}"
        )


def check_noise_multiplier(noise_multiplier: float) -> None:
    """Checks that a noise multiplier is 0 or within the limits of this module.

    Raises:
      ValueError: the noise multiplier is too small, too large, or not finite.
    """
    if 0 < noise_multiplier < SMALLEST_NOISE_MULTIPLIER:
        raise ValueError(
            f"noise_multiplier must be 0, for no noise, or at least "
            f"{SMALLEST_NOISE_MULTIPLIER:g}, got {noise_multiplier}"
        )
    if not 0 <= noise_multiplier <= LARGEST_NOISE_MULTIPLIER:
        raise ValueError(
            "noise_multiplier must be at least 0 and finite, at most "
            f"{LARGEST_NOISE_MULTIPLIER:g}, got {noise_multiplier}"
        )


def check_delta(delta: float) -> None:
    """Checks that 0 < δ < 1.

    Raises:
      ValueError: δ is outside (0, 1).
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must be above 0 and below 1, got {delta}")
