"""The modules inside a model."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Any, Optional

import tensorflow as tf


def modules_of(module: Any) -> list[Any]:
    """Returns all modules (layers, cells, ...) inside a module, without the module.

    The order is that of `tf.Module.submodules`. That property fails for recurrent
    layers with dropout, since these hold a cache of masks by graph.
    """
    return list(_inside(module, {id(module)}))


def inside(held: Any) -> list[Any]:
    """Returns an object that holds modules as attributes, and all modules inside it."""
    if isinstance(held, tf.Module):
        return [held, *modules_of(held)]
    found = [m for value in vars(held).values() for m in _leaves(value)]
    unique = {id(m): m for module in found for m in (module, *modules_of(module))}
    return [held, *unique.values()]


def non_trainable_variables(model: Any) -> list[tf.Variable]:
    """The non-trainable variables of a model of Keras or of TFF.

    Keras counts the vocabulary of an adapted lookup layer among them. It is no variable
    but the content of a table.
    """
    return [v for v in model.non_trainable_variables if isinstance(v, tf.Variable)]


def _inside(module: Any, seen: set[int]) -> Iterator[Any]:
    ignored = type(module)._TF_MODULE_IGNORED_PROPERTIES
    found = []
    for name in sorted(vars(module)):
        if name in ignored:
            continue
        for value in _leaves(vars(module)[name]):
            if id(value) not in seen:
                seen.add(id(value))
                found.append(value)
                yield value
    for value in found:
        yield from _inside(value, seen)


def _leaves(value: Any) -> Iterator[Any]:
    """The modules in a structure of lists, tuples and dicts."""
    if isinstance(value, tf.Module):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, Mapping) and not isinstance(
        value, weakref.WeakKeyDictionary
    ):
        for key in _sorted(value):
            yield from _leaves(value[key])


def _sorted(mapping: Mapping[Any, Any]) -> list[Any]:
    try:
        return sorted(mapping)
    except TypeError:
        return list(mapping)


def layer_in(path: str, modules: list[Any]) -> Optional[str]:
    """Finds the innermost layer in an operation's name, "model/layer/Operation"."""
    names = {module.name for module in modules if isinstance(module, tf.Module)}
    return next((p for p in reversed(path.split("/")[:-1]) if p in names), None)
