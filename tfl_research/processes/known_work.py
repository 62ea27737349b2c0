"""Traces computations once that several points of a sweep share.

Points that differ in the server's noise or in a rule have the same client computation,
and points that differ in an attack have the same aggregation. Tracing a computation
takes a tenth of a second or more. A key made from the recipe of a computation tells
which computations are equal. Only recipes of the toolkit that hold plain data have a
key. All other computations are traced at each point.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Optional, TypeVar

import numpy as np
import tensorflow_federated as tff

from tfl_research.aggregators import declarations
from tfl_research.clients.client_work import ClientWork
from tfl_research.models import known_builders
from tfl_research.processes.aggregation import Aggregator, create_aggregation
from tfl_research.processes.weighting import ClientWeighting
from tfl_research.tasks import Task, shared

_Made = TypeVar("_Made")
_PACKAGE = f"{__name__.partition('.')[0]}."
# Objects from these modules hold only hyperparameters.
_OPTIMIZERS = "tensorflow_federated.python.learning.optimizers."


class _Unknown(Exception):
    """A value has no key."""


def key_of(task: Task, seed: int, work: ClientWork) -> Optional[Hashable]:
    """Returns a key of everything that a client's function and its model depend on.

    Args:
      task: the task, which has the model and the objective.
      seed: seed of the initial weights.
      work: the recipe of a client's computation.

    Returns:
      The key. None outside of a sweep, and if a part is not the toolkit's own.
    """
    if not shared.is_sweep():
        return None
    builders = tuple(
        known_builders.key_of(builder)
        for builder in (task.build_model, task.build_objective)
    )
    if None in builders:
        return None
    key = recipe_key((work, repr(task.x_spec), task.non_trainable, seed))
    return None if key is None else (builders, key)


def recipe_key(recipe: Any) -> Optional[Hashable]:
    """Returns a key that is equal for recipes with equal data; None if there is no key.

    Args:
      recipe: a number, text, array, one of the toolkit's own dataclasses or functions,
        one of TFF's optimizers, or a tuple, list or mapping of recipes. Other recipes
        have no key.
    """
    try:
        return _key(recipe)
    except _Unknown:
        return None


def _key(value: Any) -> Hashable:
    kind = type(value)
    if kind in known_builders.PLAIN:
        # Python says 1 == True and 0.0 == -0.0, but a recipe may distinguish them.
        return kind, repr(value)
    if kind in (tuple, list):
        return kind, tuple(map(_key, value))
    if isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).digest()
        return kind, value.dtype.str, np.shape(value), digest
    if isinstance(value, Mapping) and kind.__module__ in ("builtins", "collections"):
        return kind, tuple((_key(name), _key(held)) for name, held in value.items())
    function = known_builders.key_of(value)
    if function is not None:
        return function
    is_optimizer = kind.__module__.startswith(_OPTIMIZERS)
    if not is_optimizer and not _is_own_dataclass(value):
        raise _Unknown
    return kind, tuple((name, _key(held)) for name, held in vars(value).items())


def _is_own_dataclass(value: Any) -> bool:
    """Whether a dataclass of the toolkit holds only the fields of its class."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return False
    names = {field.name for field in dataclasses.fields(value)}
    is_own = type(value).__module__.startswith(_PACKAGE)
    return is_own and hasattr(value, "__dict__") and set(vars(value)) == names


def traced_once(key: Optional[Hashable], trace: Callable[[], _Made]) -> _Made:
    """Returns the result of `trace`; calls `trace` once a key, always without a key."""
    if key is None:
        return trace()
    return known_builders.made_once(("traced", key), trace)


def aggregation(
    aggregator: Aggregator,
    update_type: tff.Type,
    weighting: ClientWeighting,
    client_data_type: tff.StructWithPythonType,
) -> tuple[tff.templates.AggregationProcess, bool]:
    """Calls `create_aggregation` once for all equal recipes of a sweep."""
    key: Optional[Hashable] = None
    if shared.is_sweep():
        members = declarations(aggregator).client_members
        types = [repr(update_type), *(repr(client_data_type[name]) for name in members)]
        key = recipe_key(("aggregation", aggregator, weighting, types))
    return traced_once(
        key,
        lambda: create_aggregation(
            aggregator, update_type, weighting, client_data_type
        ),
    )
