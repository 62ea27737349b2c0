"""What one round did to privacy, as plain data that accountants judge."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Optional, TypeVar

import numpy as np

from tfl_research.registry import Registry

if TYPE_CHECKING:
    from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent

ACCOUNTANTS = ("pld", "rdp")
# Far beyond use, and far from where its square overflows or vanishes.
SMALLEST_NOISE_MULTIPLIER, LARGEST_NOISE_MULTIPLIER = 1e-100, 1e6


class Event(abc.ABC):
    """One round of a run; all rounds of a run have the same event.

    Subclasses are frozen dataclasses whose fields are JSON values (or tuples of
    them): equal events are equal rounds. A ledger keeps them for years, which binds
    whoever writes a class:

    - a registered kind is never removed, and its fields are never renamed;
    - a new field has a default, which describes the rounds of older ledgers;
    - a change of the fields does not change the ε of older ledgers.

    A user's own class is registered with `register_event`, in a module that the
    readers of its ledgers can import. Events with a noise multiplier derive from
    `NoisedEvent`:

        @privacy.register_event
        @dataclasses.dataclass(frozen=True)
        class LaplaceEvent(privacy.NoisedEvent):
            kind: ClassVar[str] = "laplace"

            noise_multiplier: float
            neighbouring_relation: str = "add_or_remove_one"

            def rdp(self, rounds, orders): ...

            def epsilon_curve(self, rounds, delta, accountant):
                orders = renyi.default_orders()  # privacy.accounting.losses.renyi
                table = [self.rdp(n, orders) for n in range(1, rounds + 1)]
                return renyi.rdp_epsilons(orders, np.array(table), delta)

            def description(self): ...

    Attributes:
      kind: the name in ledgers, unique.
      composes_by_round: whether n rounds and m more, of whatever run, are n + m
        rounds; unlike rounds whose noise is correlated.
      noised_by_clients: whether clients noise what they send, so that what has
        reached the server is released, whether or not the server goes on with it.
      releases_integers: whether releases are integers, whose low-order bits tell
        nothing of the generator of the noise.
      is_search: whether the event is a whole search of hyperparameters.
    """

    kind: ClassVar[str]
    composes_by_round: ClassVar[bool] = False
    noised_by_clients: ClassVar[bool] = False
    releases_integers: ClassVar[bool] = False
    is_search: ClassVar[bool] = False

    if TYPE_CHECKING:
        # A field or a property; as an attribute of this class it would be taken for
        # the default of a subclass' field.
        @property
        def neighbouring_relation(self) -> str:
            """Which populations are neighbours, see `sampling.Amplification`."""

    @property
    def unit(self) -> str:
        """The unit of privacy: "client" (the default) or "record"."""
        return "client"

    @property
    def accountants(self) -> tuple[str, ...]:
        """Those of `ACCOUNTANTS` that apply, the tightest first; "rdp" by default."""
        return ("rdp",)

    @property
    def noise(self) -> Optional[float]:
        """The noise multiplier, 0 for no privacy (ε = inf); None without one."""
        return None

    @property
    def rate(self) -> Optional[float]:
        """A client's probability of taking part in a round; None by default."""
        return None

    @property
    def num_clients(self) -> Optional[int]:
        """Number of clients that could take part, or None if it is not known."""
        return None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of which a reader must know the classes; by default its own."""
        return (self.kind,)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, JSON values, and "kind"."""
        return fields_of(self)

    def with_noise(self, noise_multiplier: float) -> Event:
        """The event with another noise multiplier.

        Raises:
          ValueError: the event has none.
        """
        del noise_multiplier
        raise ValueError(f"a {self.kind} event has no noise multiplier to look for")

    @abc.abstractmethod
    def rdp(self, rounds: int, orders: np.ndarray) -> np.ndarray:
        """Rényi divergence of rounds 1 to `rounds` together, in nats.

        Args:
          rounds: at least 1. The divergence need not be linear in it.
          orders: float64 `[orders]`, above 1.

        Returns:
          float64 `[orders]`; inf where there is no bound.
        """

    @abc.abstractmethod
    def epsilon_curve(self, rounds: int, delta: float, accountant: str) -> np.ndarray:
        """ε after 1, 2, ..., `rounds` rounds: float64 `[rounds]`, not decreasing.

        A shorter curve is the beginning of a longer one, to the last bit.

        Raises:
          ValueError: an accountant that does not apply; names those that do.
        """

    @abc.abstractmethod
    def description(self) -> list[str]:
        """Sentences for a privacy statement.

        The mechanism with its paper, what is noised, and what is assumed of
        sampling or participation.
        """

    def epsilon(self, rounds: int, delta: float, accountant: str) -> float:
        """The last value of `epsilon_curve`; subclasses may find it faster."""
        return float(self.epsilon_curve(rounds, delta, accountant)[-1])

    def effective_noise_multiplier(self, rounds: int) -> Optional[float]:
        """Noise over sensitivity, where all rounds are a single Gaussian; or None."""
        del rounds
        return None

    def as_gaussian_rounds(self, rounds: int) -> Optional[tuple[GaussianEvent, int]]:
        """An event and how many rounds of it cost as much as these; or None."""
        del rounds
        return None

    def zcdp(self, rounds: int) -> Optional[float]:
        """ρ of zero-concentrated differential privacy of rounds 1 to `rounds`.

        None where there is no such bound. By default that of a single Gaussian, 1 /
        (2 z²) (Bun and Steinke 2016, arXiv 1605.02065, Lemma 2.4).
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
    """

    noise_multiplier: float

    @property
    def noise(self) -> Optional[float]:
        """See `Event`."""
        return self.noise_multiplier

    def with_noise(self, noise_multiplier: float) -> Event:
        """See `Event`."""
        own: Any = self
        changed: Event = dataclasses.replace(own, noise_multiplier=noise_multiplier)
        return changed


_PACKAGE = "tfl_research.privacy.accounting.events."
EVENTS: Registry[type[Event]] = Registry(
    "kind of event",
    {
        "gaussian": f"{_PACKAGE}gaussian_event:GaussianEvent",
        "tree": f"{_PACKAGE}tree_event:TreeEvent",
        "banded_matrix": f"{_PACKAGE}matrix_event:MatrixEvent",
        "discrete_gaussian": (
            f"{_PACKAGE}discrete_gaussian_event:DiscreteGaussianEvent"
        ),
        "skellam": f"{_PACKAGE}skellam_event:SkellamEvent",
        "local_gaussian": f"{_PACKAGE}local_gaussian_event:LocalGaussianEvent",
        "record_dp_sgd": f"{_PACKAGE}record_event:RecordEvent",
        "hyperparameter_search": f"{_PACKAGE}search_event:HyperparameterSearchEvent",
    },
)
EventClass = TypeVar("EventClass", bound=type[Event])


class UnknownKindError(ValueError):
    """An event of a kind that nobody registered.

    Attributes:
      kind: the kind.
    """

    def __init__(self, kind: Any):
        super().__init__(f"kind of event must be one of {EVENTS.names()}, got {kind!r}")
        self.kind = kind


def register_event(event_class: EventClass) -> EventClass:
    """Registers a class of events by its `kind`: a decorator; see `Event`.

    Raises:
      ValueError: the kind is taken, or the class is no subclass of `Event`.
    """
    if not issubclass(event_class, Event):
        raise ValueError(
            f"{event_class.__name__} must be a subclass of privacy.Event to be "
            "registered"
        )
    EVENTS.register(event_class.kind, event_class)
    return event_class


def plugin_of(event: Event) -> Optional[str]:
    """The module that registered an event's class; None for the toolkit's own.

    Of an event that holds another one, the first plugin of the two.

    Raises:
      ValueError: see `check_registered`.
    """
    check_registered(event)
    origins = (EVENTS.origin(kind) for kind in event.kinds)
    return next((origin for origin in origins if origin is not None), None)


def check_registered(event: Event) -> None:
    """Checks that a ledger with the event can be read again.

    Raises:
      ValueError: the event's class is not the one that is registered for its kind.
    """
    kind = event.kind
    if kind not in EVENTS or EVENTS.get(kind) is not type(event):
        raise ValueError(
            f"{type(event).__name__} is not registered for events of kind {kind!r}, so "
            "that no ledger with it could be read again: decorate the class with "
            "@privacy.register_event"
        )


def event_from_dict(fields: Mapping[str, Any]) -> Event:
    """The event of which `to_dict` gave these fields.

    Raises:
      UnknownKindError: nobody registered the kind.
      ValueError: missing or unknown fields, or values that the event's class refuses.
    """
    values = dict(fields)
    kind = values.pop("kind", None)
    if kind not in EVENTS:
        raise UnknownKindError(kind)
    event_class: Any = EVENTS.get(kind)
    try:
        event: Event = event_class(**{k: _frozen(v) for k, v in values.items()})
    except TypeError as error:
        raise ValueError(f"not the fields of a {kind!r} event: {error}") from error
    return event


def _frozen(value: Any) -> Any:
    """JSON's lists as the tuples they were."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def fields_of(event: Any) -> dict[str, Any]:
    """`Event.to_dict` of a dataclass: "kind" and its fields."""
    return {"kind": event.kind, **dataclasses.asdict(event)}


def check_accountant(event: Event, accountant: str) -> None:
    """Raises ValueError for an accountant that does not apply to the event."""
    if accountant not in event.accountants:
        fitting = " or ".join(map(repr, event.accountants))
        raise ValueError(
            f"accountant {accountant!r} has no bound for a {event.kind!r} event of "
            f"this kind of sampling: use {fitting}"
        )


def check_noise_multiplier(noise_multiplier: float) -> None:
    """Raises ValueError unless it is 0 or within the limits above."""
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
    """Raises ValueError unless 0 < δ < 1."""
    if not 0 < delta < 1:
        raise ValueError(f"delta must be above 0 and below 1, got {delta}")
