"""Protocols of the parts that the round loop takes."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional, Protocol, runtime_checkable

if TYPE_CHECKING:
    from tfl_research.program.evaluation.client_metrics import Evaluation
    from tfl_research.program.evaluation.personal_metrics import PersonalEvaluation
    from tfl_research.tasks.metrics import Metric

# (weights, path) -> None, writes a model.
Exporter = Callable[[Any, pathlib.Path], None]


class Engine(Protocol):
    """Executes the rounds of a process; see `runtime.Engine`."""

    def initialize(self) -> Any: ...

    def next(self, state: Any, cohort: Any) -> tuple[Any, Any]: ...


class Sampler(Protocol):
    """Draws cohorts, as a pure function of the round number.

    A sampler can also be a `HasCompanions` or a `SimulatesDevices`.
    """

    def sample(self, round_number: int) -> Sequence[str]: ...


@runtime_checkable
class HasCompanions(Protocol):
    """A sampler of cohorts with companions: participants that are not clients.

    Attributes:
      beside: ids of the companions, such as the holder of the server's own examples.
        Companions are in every cohort, and the cohort size does not count them.
    """

    @property
    def beside(self) -> Sequence[str]: ...


class Outcome(Protocol):
    """The result of a simulated round; see `devices.Outcome`."""

    @property
    def abandoned(self) -> bool: ...

    def prepared(self, cohort: Any) -> Any: ...

    def columns(self) -> Mapping[str, float]: ...


@runtime_checkable
class SimulatesDevices(Protocol):
    """A sampler of simulated devices; its rounds can be abandoned."""

    def outcome(self, round_number: int) -> Outcome: ...

    def abandoned_before(self, round_number: int) -> int: ...


class Plan(Protocol):
    """A privacy plan. The loop compares plans with `==`."""

    def record(self) -> Mapping[str, Any]:
        """Returns the plan as JSON values, to show the difference between two plans."""
        ...


class Account(Protocol):
    """Charges the rounds of a run to a privacy budget.

    `charge` writes the charge durably before it returns. It charges a round only once,
    since a resumed run repeats rounds with the same noise. It returns ε after the
    round. It returns None, and charges nothing, when other runs have meanwhile spent
    the budget that the round needs.

    The loop numbers rounds without the abandoned rounds, unless the account
    `charges_abandoned`. An account for noise that clients add charges abandoned rounds
    too, because the server has already seen the clients' noised updates.
    """

    delta: Optional[float]
    noise_multiplier: Optional[float]
    budget_epsilon: Optional[float]

    @property
    def plan(self) -> Plan:
        """The plan that the account charges for, and that the process is built from."""
        ...

    def check_measured(self, metrics: Any) -> None:
        """Raises ValueError when a round's noise is not the noise of the plan.

        Args:
          metrics: the metrics of the round, as `Engine.next` returns them.
        """
        ...

    @property
    def charges_abandoned(self) -> bool: ...

    def charge(self, round_number: int) -> Optional[float]: ...

    def charge_release(
        self, name: str, round_number: int, event: Any
    ) -> Optional[float]:
        """Charges a further release, durably, before anyone sees the release.

        Args:
          name: "evaluation" or "selection".
          round_number: completed rounds; a release of the same name and round is
            charged once.
          event: an event of `privacy.accounting.events`, which says what the release
            costs.

        Returns:
          ε of the run after the release. If a budget forbids the release, None, and
          nothing is charged.
        """
        ...

    def shared_epsilon(self, rounds: int) -> Optional[float]:
        """Returns ε of all runs of the shared ledger after `rounds` rounds, or None."""
        ...

    def epsilon_after(self, rounds: int) -> float: ...

    def would_exceed(self, round_number: int) -> bool: ...

    def positions(self) -> dict[str, Any]:
        """Returns the ends of the account's ledgers as JSON values, for checkpoints."""
        ...

    def check_positions(self, positions: Mapping[str, Any]) -> None:
        """Raises ValueError when a ledger has lost entries up to these positions."""
        ...


class Evaluates(Protocol):
    """Evaluates models; see `program.Evaluator`."""

    @property
    def splits(self) -> Sequence[str]: ...

    @property
    def metrics(self) -> Mapping[str, Metric]: ...

    def evaluate(self, weights: Any, split: str = ...) -> Evaluation: ...


class EvaluatesPersonal(Protocol):
    """Evaluates personal models; see `program.PersonalEvaluator`."""

    def evaluate(
        self,
        state: Any,
        round_number: int,
        *,
        states: Any = ...,
        stream: Any = ...,
        progress_bar: Optional[bool] = ...,
    ) -> PersonalEvaluation: ...
