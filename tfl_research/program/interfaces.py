"""What the loop asks of the parts that it is given."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional, Protocol, runtime_checkable

if TYPE_CHECKING:
    from tfl_research.program.evaluation.client_metrics import Evaluation
    from tfl_research.program.evaluation.personal import PersonalEvaluation

# Writes a model: (weights, path).
Exporter = Callable[[Any, pathlib.Path], None]


class Engine(Protocol):
    """What the loop asks of a runtime."""

    def initialize(self) -> Any: ...

    def next(self, state: Any, cohort: Any) -> tuple[Any, Any]: ...


class Sampler(Protocol):
    """What the loop asks of a cohort sampler: a pure function of the round.

    A sampler can also be `HasCompanions` or `SimulatesDevices`.
    """

    def sample(self, round_number: int) -> Sequence[str]: ...


@runtime_checkable
class HasCompanions(Protocol):
    """A sampler whose cohorts include participants that are no clients.

    Attributes:
      beside: the ids of these participants, which are in every cohort and count in
        no cohort size (the server's own examples).
    """

    @property
    def beside(self) -> Sequence[str]: ...


class Outcome(Protocol):
    """What the loop asks of a simulated round; see `devices.Outcome`."""

    @property
    def abandoned(self) -> bool: ...

    @property
    def private_columns(self) -> Sequence[str]:
        """Columns of metrics.csv that are withheld with the train metrics."""
        ...

    def prepared(self, cohort: Any) -> Any: ...

    def columns(self) -> Mapping[str, float]: ...


@runtime_checkable
class SimulatesDevices(Protocol):
    """A sampler of simulated devices, whose rounds can be abandoned."""

    def outcome(self, round_number: int) -> Outcome: ...

    def abandoned_before(self, round_number: int) -> int: ...


class Plan(Protocol):
    """What the loop asks of a privacy plan; plans are compared with `==`."""

    def record(self) -> Mapping[str, Any]:
        """The plan as JSON values, which name what differs between two plans."""
        ...


class Account(Protocol):
    """What the loop asks of a privacy account.

    `charge` must be durable before it returns and charge a round that is charged
    already no second time, since a resumed run repeats rounds with the same noise.
    It is None, and nothing is charged, where other runs have meanwhile spent what
    the budget had left for the round. Rounds are numbered without abandoned ones,
    unless the account `charges_abandoned`: what clients noised themselves has been
    seen when a round is abandoned.
    """

    delta: Optional[float]
    noise_multiplier: Optional[float]

    @property
    def plan(self) -> Plan:
        """The plan that the account charges for; the process is built from it."""
        ...

    def check_measured(self, metrics: Any) -> None:
        """Raises ValueError where a round's noise is not the noise of the plan.

        Args:
          metrics: what the process measured in the round, as `Engine.next` gives it.
        """
        ...

    @property
    def charges_abandoned(self) -> bool: ...

    def charge(self, round_number: int) -> Optional[float]: ...

    def epsilon_after(self, rounds: int) -> float: ...

    def would_exceed(self, round_number: int) -> bool: ...

    def positions(self) -> dict[str, Any]:
        """How far the account's ledgers go, JSON values, kept in checkpoints."""
        ...

    def check_positions(self, positions: Mapping[str, Any]) -> None:
        """Raises ValueError where a ledger has lost what it had then."""
        ...


class Evaluates(Protocol):
    """What the loop asks of an evaluator."""

    @property
    def splits(self) -> Sequence[str]: ...

    def evaluate(self, weights: Any, split: str = ...) -> Evaluation: ...


class EvaluatesPersonal(Protocol):
    """What the loop asks of an evaluator of personal models."""

    def evaluate(
        self,
        state: Any,
        round_number: int,
        *,
        states: Any = ...,
        stream: Any = ...,
        progress_bar: Optional[bool] = ...,
    ) -> PersonalEvaluation: ...
