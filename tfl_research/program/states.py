"""Finds the model in the states of a process, and stands in for an evaluator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn, Optional, Protocol, runtime_checkable

from tfl_research.tasks.metrics import Metric

# Returns the part of a state that is evaluated and exported, or None.
WeightsOf = Callable[[Any], Any]

NOT_EVALUATED = "nothing is evaluated"


@runtime_checkable
class HasModel(Protocol):
    """A state with a model, as TFF's `LearningAlgorithmState`."""

    @property
    def global_model_weights(self) -> Any: ...


def model_weights(state: Any) -> Any:
    """Returns the model in a state; None if the process trains no model."""
    return state.global_model_weights if isinstance(state, HasModel) else None


@dataclasses.dataclass(frozen=True)
class StateOptions:
    """How a run reads and keeps the states of its process.

    Attributes:
      weights_of: returns the model in a state, or None if the state has no model.
      any_shape: paths of leaves whose shape the process' type leaves open.
      keep_initial_state: whether the initial state is kept as a checkpoint before the
        first round, since a later start could not make it again. None makes the state
        twice and keeps it if the two differ.
    """

    weights_of: WeightsOf = model_weights
    any_shape: Collection[str] = ()
    keep_initial_state: Optional[bool] = None


class NoEvaluation:
    """Replaces the evaluator in runs without a model to evaluate."""

    splits: Sequence[str] = ()
    metrics: Mapping[str, Metric] = MappingProxyType({})

    def evaluate(self, weights: Any, split: str = "") -> NoReturn:
        """Raises ValueError, since there is no split to evaluate."""
        raise ValueError(f"there is no split {split!r}: {NOT_EVALUATED}")
