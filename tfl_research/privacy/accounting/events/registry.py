"""Registers kinds of events by name, and reads events from ledgers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Optional, TypeVar

from tfl_research.privacy.accounting.events.event import Event
from tfl_research.registry import Registry

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
        "pure": f"{_PACKAGE}pure_event:PureEvent",
        "hyperparameter_search": f"{_PACKAGE}search_event:HyperparameterSearchEvent",
    },
)
EventClass = TypeVar("EventClass", bound=type[Event])


class UnknownKindError(ValueError):
    """No class is registered for the kind of an event.

    Attributes:
      kind: the kind.
    """

    def __init__(self, kind: Any):
        super().__init__(f"kind of event must be one of {EVENTS.names()}, got {kind!r}")
        self.kind = kind


def register_event(event_class: EventClass) -> EventClass:
    """Registers a class of events by its `kind`, as a decorator; see `Event`.

    Raises:
      ValueError: the kind is taken, or the class is no subclass of `Event`.

    Example:
      >>> import dataclasses
      >>> from typing import ClassVar
      >>> @tfl.privacy.register_event
      ... @dataclasses.dataclass(frozen=True)
      ... class MyEvent(tfl.privacy.GaussianEvent):
      ...     kind: ClassVar[str] = "mine"
      >>> event = MyEvent.poisson(1.0, sampling_rate=0.01)
      >>> tfl.privacy.event_from_dict(event.to_dict()) == event
      True
    """
    if not issubclass(event_class, Event):
        raise ValueError(
            f"{event_class.__name__} must be a subclass of privacy.Event to be "
            "registered"
        )
    EVENTS.register(event_class.kind, event_class)
    return event_class


def plugin_of(event: Event) -> Optional[str]:
    """Returns the module that registered an event's class; None for the toolkit's own.

    For an event within an event, the result is the outer event's module, or the inner
    event's module if the outer class is the toolkit's own.

    Raises:
      ValueError: the event's class is not the class that is registered for its kind.
    """
    check_registered(event)
    origins = (EVENTS.origin(kind) for kind in event.kinds)
    return next((origin for origin in origins if origin is not None), None)


def check_registered(event: Event) -> None:
    """Checks that the event's class is registered, so that a ledger can be read again.

    Raises:
      ValueError: the event's class is not the class that is registered for its kind.
    """
    kind = event.kind
    if kind not in EVENTS or EVENTS.get(kind) is not type(event):
        raise ValueError(
            f"{type(event).__name__} is not registered for events of kind {kind!r}, "
            "so nobody could read a ledger with it again: decorate the class with "
            "@privacy.register_event"
        )


def check_readable(event: Event) -> None:
    """Checks that reading the event back from a ledger's JSON gives an equal event.

    Raises:
      ValueError: the event has fields that JSON cannot hold, that are read back as
        other values, or that cannot be compared.
    """
    try:
        hash(event)
        text = json.dumps(event.to_dict(), allow_nan=False)
        read = event_from_dict(json.loads(text))
        same = bool(read == event)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"a {event.kind!r} event cannot be read back from a ledger ({error}); its "
            "fields must be numbers, texts, None, or tuples of these"
        ) from error
    if not same:
        raise ValueError(
            f"a {event.kind!r} event comes back from a ledger as {read}, but was "
            f"{event}; its fields must be numbers, texts, None, or tuples of these"
        )


def event_from_dict(fields: Mapping[str, Any]) -> Event:
    """Makes an event from the fields that its `to_dict` gave.

    Raises:
      UnknownKindError: no class is registered for the kind.
      ValueError: fields are missing or unknown, or the event's class refuses a value.
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
    """Turns JSON's lists into tuples."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
