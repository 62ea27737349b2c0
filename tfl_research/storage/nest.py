"""Nested states as flat leaves with paths, and back.

A nest is made of mappings, named tuples, tuples, lists, dataclasses and attrs
classes; None holds nothing; everything else is a leaf. TFF's
`LearningAlgorithmState` and `ModelWeights` are named tuples and so are covered.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Optional

import numpy as np


def _children(value: Any) -> Optional[list[tuple[str, Any]]]:
    """(path step, child) of each child, or None when `value` is a leaf."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", child) for key, child in value.items()]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return [(f".{name}", getattr(value, name)) for name in value._fields]
    if isinstance(value, (list, tuple)):
        return [(f"[{index}]", child) for index, child in enumerate(value)]
    names = _field_names(value)
    if names is not None:
        return [(f".{name}", getattr(value, name)) for name in names]
    return None


def _field_names(value: Any) -> Optional[list[str]]:
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    if hasattr(type(value), "__attrs_attrs__"):
        return [field.name for field in type(value).__attrs_attrs__]
    return None


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, leaf) of every leaf, depth first; a path is like ".weights[0]['bias']"."""
    children = _children(value)
    if children is None:
        yield path, value
        return
    for step, child in children:
        yield from flatten(child, path + step)


def map_with_path(
    function: Callable[[str, Any], Any], value: Any, path: str = ""
) -> Any:
    """The same nest with every leaf replaced by `function(path, leaf)`."""
    children = _children(value)
    if children is None:
        return function(path, value)
    mapped = [map_with_path(function, child, path + step) for step, child in children]
    return _remade(value, mapped)


def put(value: Any, paths: Collection[str], leaf: Any, path: str = "") -> Any:
    """The same nest with `leaf` at some paths; parts without such a path are shared."""
    if path in paths:
        return leaf
    children = _children(value)
    if not children or not any(each.startswith(path) for each in paths):
        return value
    changed = [put(child, paths, leaf, path + step) for step, child in children]
    return _remade(value, changed)


def _remade(value: Any, mapped: list[Any]) -> Any:
    """A nest like `value` with other children."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        pairs = zip(value.keys(), mapped)
        # A dict, an ordered dict, or another type that is made from pairs.
        return type(value)(pairs)  # type: ignore[call-arg]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*mapped)
    if isinstance(value, (list, tuple)):
        return type(value)(mapped)
    names = _field_names(value) or []
    # attrs strips a leading underscore from the name of the argument.
    arguments = (
        names
        if dataclasses.is_dataclass(value)
        else [name.lstrip("_") for name in names]
    )
    return type(value)(**dict(zip(arguments, mapped)))


def copied(value: Any) -> Any:
    """The nest with every leaf copied into a NumPy array."""
    return map_with_path(lambda _, leaf: np.array(leaf), value)


def find_scalar(value: Any, name: str) -> Optional[float]:
    """The first numeric scalar leaf whose last path step is `name`, else None."""
    for path, leaf in flatten(value):
        if path.endswith((f"['{name}']", f".{name}")):
            array = np.asarray(leaf)
            if array.ndim == 0 and array.dtype.kind in "biuf":
                return float(array)
    return None


def first_non_finite(value: Any) -> Optional[str]:
    """Path of the first numeric leaf that holds a NaN or an infinity, or None."""
    for path, leaf in flatten(value):
        if not np.isfinite(np.asarray(leaf)).all():
            return path
    return None
