"""What one round did to privacy, as plain data that accountants judge."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np

ACCOUNTANTS = ("pld", "rdp")
# Far beyond use, and far from where its square overflows or vanishes.
SMALLEST_NOISE_MULTIPLIER, LARGEST_NOISE_MULTIPLIER = 1e-100, 1e6

# The class of each kind of event: (module, name), imported when it is needed.
_CLASSES = {
    "gaussian": ("gaussian_event", "GaussianEvent"),
    "tree": ("tree_event", "TreeEvent"),
    "banded_matrix": ("matrix_event", "MatrixEvent"),
    "discrete_gaussian": ("discrete_gaussian_event", "DiscreteGaussianEvent"),
    "skellam": ("skellam_event", "SkellamEvent"),
    "local_gaussian": ("local_gaussian_event", "LocalGaussianEvent"),
    "record_dp_sgd": ("record_event", "RecordEvent"),
    "hyperparameter_search": ("search_event", "HyperparameterSearchEvent"),
}
KINDS = tuple(_CLASSES)


class Event(Protocol):
    """One round of a run; all rounds of a run have the same event.

    Events are frozen dataclasses whose fields are JSON values (or tuples of them):
    equal events are equal rounds. Members that only some kinds have:

      noise_multiplier: of those that can be calibrated, a field; 0 means no privacy
        (ε = inf).
      effective_noise_multiplier(rounds) -> float: of those that are a single
        Gaussian over all rounds together, its noise over its sensitivity.
      as_gaussian_rounds(rounds) -> (GaussianEvent, int): of those that cost as much
        as so many rounds of that event.
      epsilon(rounds, delta, accountant) -> float: of those that find the last value
        of `epsilon_curve` faster than the curve.
      composes_by_round: True where n rounds and m more, of whatever run, are n + m
        rounds; unlike rounds whose noise is correlated.
      noised_by_clients: True where clients noise what they send, so that what has
        reached the server is released, whether or not the server goes on with it.
      zcdp(rounds) -> float or None: ρ of zero-concentrated differential privacy of
        rounds 1 to `rounds` together, None where there is no such bound.
    """

    kind: ClassVar[str]

    @property
    def unit(self) -> str:
        """The unit of privacy: "client" or "record"."""

    @property
    def neighbouring_relation(self) -> str:
        """Which populations are neighbours, see `sampling.Amplification`."""

    @property
    def accountants(self) -> tuple[str, ...]:
        """Those of `ACCOUNTANTS` that apply, the tightest first."""

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, JSON values, and "kind"."""

    def rdp(self, rounds: int, orders: np.ndarray) -> np.ndarray:
        """Rényi divergence of rounds 1 to `rounds` together, in nats.

        Args:
          rounds: at least 1. The divergence need not be linear in it.
          orders: float64 `[orders]`, above 1.

        Returns:
          float64 `[orders]`; inf where there is no bound.
        """

    def epsilon_curve(self, rounds: int, delta: float, accountant: str) -> np.ndarray:
        """ε after 1, 2, ..., `rounds` rounds: float64 `[rounds]`, not decreasing.

        A shorter curve is the beginning of a longer one, to the last bit.

        Raises:
          ValueError: an accountant that does not apply; names those that do.
        """

    def description(self) -> list[str]:
        """Sentences for a privacy statement.

        The mechanism with its paper, what is noised, and what is assumed of
        sampling or participation.
        """


def event_from_dict(fields: Mapping[str, Any]) -> Event:
    """The event of which `to_dict` gave these fields.

    Raises:
      ValueError: an unknown kind, missing or unknown fields, or values that the
        event's class refuses.
    """
    values = dict(fields)
    kind = values.pop("kind", None)
    if kind not in _CLASSES:
        raise ValueError(f"kind of event must be one of {KINDS}, got {kind!r}")
    module, name = _CLASSES[kind]
    event_class = getattr(
        importlib.import_module(f"tfl_research.privacy.{module}"), name
    )
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


def noised_by_clients(event: Any) -> bool:
    """Whether clients noise what they send; see `Event`."""
    return bool(getattr(event, "noised_by_clients", False))


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
