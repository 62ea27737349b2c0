"""What a run knows of the states of its process, and runs that evaluate nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn, Optional, Protocol, runtime_checkable

from tfl_research.tasks.metrics import Metric

# The part of a state that is evaluated and exported, or None.
WeightsOf = Callable[[Any], Any]

NOT_EVALUATED = "nothing is evaluated"


@runtime_checkable
class HasModel(Protocol):
    """A state with a model, as TFF's `LearningAlgorithmState`."""

    @property
    def global_model_weights(self) -> Any: ...


def model_weights(state: Any) -> Any:
    """The model in a state; None in the state of a process that trains none."""
    return state.global_model_weights if isinstance(state, HasModel) else None


@dataclasses.dataclass(frozen=True)
class StateOptions:
    """What a run knows of the states of its process.

    Attributes:
      weights_of: the model in a state; None for a state without.
      any_shape: paths of leaves whose shape the process' type leaves open.
      keep_initial_state: whether the initial state is kept as a checkpoint before the
        first round, since a later start could not make it again; None to find out by
        making it twice.
    """

    weights_of: WeightsOf = model_weights
    any_shape: Collection[str] = ()
    keep_initial_state: Optional[bool] = None


class NoEvaluation:
    """Takes the place of an evaluator in runs without a model to evaluate."""

    splits: Sequence[str] = ()
    metrics: Mapping[str, Metric] = MappingProxyType({})

    def evaluate(self, weights: Any, split: str = "") -> NoReturn:
        """Nothing has a split to evaluate."""
        raise ValueError(f"there is no split {split!r}: {NOT_EVALUATED}")
