"""Converts nested states to flat leaves with paths, and back.

A nest is made of mappings, named tuples, tuples, lists, dataclasses, attrs classes and
TFF's `Struct`. None has no leaves. Every other value is a leaf.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Optional

import numpy as np


def _named_children(value: Any) -> Optional[list[tuple[str, str, Any]]]:
    """Returns (path step, name, child) of each child, or None if `value` is a leaf."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", str(key), child) for key, child in value.items()]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return [(f".{name}", name, getattr(value, name)) for name in value._fields]
    if isinstance(value, (list, tuple)):
        return [(f"[{index}]", str(index), each) for index, each in enumerate(value)]
    elements = _struct_elements(value)
    if elements is not None:
        return [
            (f"[{index}]", str(index), child)
            if name is None
            else (f".{name}", name, child)
            for index, (name, child) in enumerate(elements)
        ]
    names = _field_names(value)
    if names is not None:
        return [(f".{name}", name, getattr(value, name)) for name in names]
    return None


def _children(value: Any) -> Optional[list[tuple[str, Any]]]:
    """Returns (path step, child) of each child, or None if `value` is a leaf."""
    named = _named_children(value)
    return None if named is None else [(step, child) for step, _, child in named]


def _struct_elements(value: Any) -> Optional[list[tuple[Optional[str], Any]]]:
    """Returns (name or None, member) of members of TFF's `Struct`; None for others."""
    # If there is such a value, TFF is already imported.
    tff = sys.modules.get("tensorflow_federated")
    if tff is None or not isinstance(value, tff.structure.Struct):
        return None
    return list(tff.structure.iter_elements(value))


def _field_names(value: Any) -> Optional[list[str]]:
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    if hasattr(type(value), "__attrs_attrs__"):
        return [field.name for field in type(value).__attrs_attrs__]
    return None


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Returns (path, leaf) of leaves, depth first; paths: ".weights[0]['bias']"."""
    children = _children(value)
    if children is None:
        yield path, value
        return
    for step, child in children:
        yield from flatten(child, path + step)


def named_leaves(
    value: Any, names: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Returns (names, leaf) of every leaf, depth first.

    The names are the keys, the fields and the positions on the way to the leaf.
    """
    children = _named_children(value)
    if children is None:
        yield names, value
        return
    for _, name, child in children:
        yield from named_leaves(child, (*names, name))


def map_with_path(
    function: Callable[[str, Any], Any], value: Any, path: str = ""
) -> Any:
    """Returns the nest with every leaf replaced by `function(path, leaf)`."""
    children = _children(value)
    if children is None:
        return function(path, value)
    mapped = [map_with_path(function, child, path + step) for step, child in children]
    return _remade(value, mapped)


def put(value: Any, paths: Collection[str], leaf: Any, path: str = "") -> Any:
    """Returns the nest with `leaf` at some paths; shares all other parts."""
    if path in paths:
        return leaf
    children = _children(value)
    if not children or not any(each.startswith(path) for each in paths):
        return value
    changed = [put(child, paths, leaf, path + step) for step, child in children]
    return _remade(value, changed)


def _remade(value: Any, mapped: list[Any]) -> Any:
    """Makes a nest like `value` with other children."""
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
    elements = _struct_elements(value)
    if elements is not None:
        return type(value)((name, new) for (name, _), new in zip(elements, mapped))
    names = _field_names(value) or []
    # attrs strips a leading underscore from the name of the argument.
    arguments = (
        names
        if dataclasses.is_dataclass(value)
        else [name.lstrip("_") for name in names]
    )
    return type(value)(**dict(zip(arguments, mapped)))


def as_array(leaf: Any) -> np.ndarray:
    """Converts a leaf to an array, also a bfloat16 scalar, which NumPy cannot do."""
    tensorflow = sys.modules.get("tensorflow")
    if (
        tensorflow is not None
        and isinstance(leaf, tensorflow.Tensor)
        and leaf.dtype == tensorflow.bfloat16
    ):
        leaf = leaf.numpy()
    return np.asarray(leaf)


def copied(value: Any) -> Any:
    """Returns the nest with every leaf copied into a NumPy array."""
    return map_with_path(
        lambda _, leaf: (
            leaf if isinstance(leaf, (bytes, str)) else np.array(as_array(leaf))
        ),
        value,
    )


def equal(one: Any, other: Any) -> bool:
    """Whether two nests have the same paths and equal leaves."""
    pairs = list(flatten(one)), list(flatten(other))
    if [path for path, _ in pairs[0]] != [path for path, _ in pairs[1]]:
        return False
    return all(
        np.array_equal(as_array(first), as_array(second))
        for (_, first), (_, second) in zip(*pairs)
    )


def find_scalar(value: Any, name: str) -> Optional[float]:
    """Returns the first numeric scalar leaf whose path ends in `name`, or None."""
    for path, leaf in flatten(value):
        if path.endswith((f"['{name}']", f".{name}")):
            array = as_array(leaf)
            if array.ndim == 0 and array.dtype.kind in "biuf":
                return float(array)
    return None


def first_beyond(value: Any, limit: float) -> Optional[str]:
    """Returns the path of the first float leaf with a value beyond ±limit or NaN."""
    for path, leaf in flatten(value):
        array = as_array(leaf)
        if array.dtype.kind not in "fcV" or not array.size:
            continue
        # A NaN is not within any limit.
        if not (np.abs(array) <= limit).all():
            return path
    return None


def first_non_finite(value: Any) -> Optional[str]:
    """Returns the path of the first numeric leaf with a NaN or infinity, or None."""
    for path, leaf in flatten(value):
        array = as_array(leaf)
        # TensorFlow's own types of floats, as bfloat16, are of the kind "V".
        if array.dtype.kind in "fcV" and not np.isfinite(array).all():
            return path
    return None
