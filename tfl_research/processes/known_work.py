"""Computations that the points of a sweep share, so that they are traced once.

Points that differ in the server's noise or in a rule have the same computation of a
client, and points that differ in an attack have the same aggregation. Tracing one takes
a tenth of a second or more. They are known by the recipes that they are built from, if
these are the toolkit's own and hold plain data. Nothing is known of others.
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
# Their objects hold nothing but hyperparameters.
_OPTIMIZERS = "tensorflow_federated.python.learning.optimizers."


class _Unknown(Exception):
    """Nothing is known of a value."""


def key_of(task: Task, seed: int, work: ClientWork) -> Optional[Hashable]:
    """All that a client's function and its model depend on.

    Args:
      task: of the model and the objective.
      seed: of the initial weights.
      work: the recipe of a client's computation.

    Returns:
      None outside of a sweep, and if a part of it is not the toolkit's own.
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
    """A key that is equal for recipes that hold equal data; None if one is unknown.

    Args:
      recipe: numbers, texts, arrays, tuples, lists and mappings of recipes, the
        toolkit's own dataclasses and functions, TFF's optimizers.
    """
    try:
        return _key(recipe)
    except _Unknown:
        return None


def _key(value: Any) -> Hashable:
    kind = type(value)
    if kind in known_builders.PLAIN:
        # 1 and True are equal, and may mean something else; so are 0.0 and -0.0.
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
    """Whether an object of the toolkit holds the fields of its class alone."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return False
    names = {field.name for field in dataclasses.fields(value)}
    is_own = type(value).__module__.startswith(_PACKAGE)
    return is_own and hasattr(value, "__dict__") and set(vars(value)) == names


def traced_once(key: Optional[Hashable], trace: Callable[[], _Made]) -> _Made:
    """The result of `trace`, made once for each key, or at each call without a key."""
    if key is None:
        return trace()
    return known_builders.made_once(("traced", key), trace)


def aggregation(
    aggregator: Aggregator,
    update_type: tff.Type,
    weighting: ClientWeighting,
    client_data_type: tff.StructWithPythonType,
) -> tuple[tff.templates.AggregationProcess, bool]:
    """`create_aggregation`, once for all equal recipes of a sweep."""
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
