"""AutoGraph, for code of a user's own and for nothing else.

AutoGraph rewrites a function, and everything that the function calls, so that `if`,
`for` and `while` may depend on tensors. No function of this package, of TFF or of Keras
needs AutoGraph, and the rewriting takes a good part of a run's start. A user's code may
need AutoGraph: a loss, a metric, an optimizer, client work, server work, a robust rule,
a model without Keras.

`function` takes the place of `tf.function`. TFF converts nothing in a
`tff.tensorflow.computation`, so parts that are called there go through
`converted_as_needed`.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from typing import Any, Union

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import _tff_compat

# Packages that need no conversion, by the first part of their modules' names.
_NEED_NONE = frozenset(
    (
        *("_thread", "abc", "builtins", "collections", "contextlib", "dataclasses"),
        *("enum", "functools", "keras", "numpy", "operator", "pathlib", "tensorflow"),
        *("tensorflow_federated", "tfl_research", "threading", "types", "typing"),
        "weakref",
    )
)
# Objects of these packages are not searched.
_WHOLE = frozenset(("keras", "numpy", "pathlib", "tensorflow", "threading", "_thread"))
_LEAVES = (
    *(type(None), bool, int, float, complex, str, bytes, range, slice, type(...)),
    *(np.ndarray, np.generic, types.BuiltinFunctionType, types.ModuleType),
    *(tff.Computation, tff.Type),
)
# Keras itself converts what it calls of these, also if a user derived the class.
_CONVERTED_BY_KERAS = (tf.keras.layers.Layer, tf.keras.losses.Loss)
# A search that reaches more objects stops, and the function is converted.
_MOST_OBJECTS = 20_000


def function(python_function: Any = None, **options: Any) -> Any:
    """Makes a `tf.function`, without AutoGraph unless the function reaches users' code.

    The traced graphs are those of `tf.function`. The search for users' code follows
    everything that the function refers to: its closure, the objects that own methods,
    and the objects that these hold. The search runs when the function is given, and
    again when it is traced. If a function or a class comes from a package other than
    this package, TFF, TensorFlow, Keras and NumPy, AutoGraph converts everything, as in
    `tf.function`. Layers, losses and metrics that Keras calls are always converted.

    Args:
      python_function: the function to trace; if omitted, the result is a decorator.
      **options: options of `tf.function`.

    Example:
      >>> @autograph.function
      ... def doubled(x):
      ...     return x + x
      >>> float(doubled(tf.constant(2.0)))
      4.0
    """
    if python_function is None:
        return functools.partial(function, **options)
    if reaches_other_code(python_function):
        return tf.function(python_function, **options)
    return tf.function(converted_as_needed(python_function), **options)


def converted_as_needed(python_function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a function, so that AutoGraph converts it if it reaches users' code.

    Use this for a function that is traced within another trace, or that unconverted
    code calls. Layers, losses and metrics that Keras calls are always converted. Each
    call searches the function anew, because its closure may hold more by then.
    """
    as_it_is = _tff_compat.with_unspecified_conversion(python_function)
    converted = _tff_compat.with_conversion(python_function)

    @tf.autograph.experimental.do_not_convert
    @functools.wraps(python_function)
    def decided(*arguments: Any, **named: Any) -> Any:
        chosen = converted if reaches_other_code(python_function) else as_it_is
        return chosen(*arguments, **named)

    return decided


def reaches_other_code(root: Any) -> bool:
    """Whether a function or an object reaches code that AutoGraph may have to convert.

    An object that cannot be searched counts as such code: conversion is never wrong.
    """
    pending = [root]
    seen: set[int] = set()
    while pending:
        value = pending.pop()
        if isinstance(value, _LEAVES) or id(value) in seen:
            continue
        seen.add(id(value))
        if len(seen) > _MOST_OBJECTS:
            return True
        found = _inside(value)
        if found is None:
            return True
        pending += found
    return False


def _inside(value: Any) -> Union[list[Any], None]:
    """Returns the objects that an object refers to.

    The result is None for users' code, and for an object that cannot be searched.
    """
    if isinstance(value, types.FunctionType):
        return _of_function(value) if _needs_none(value.__module__) else None
    if isinstance(value, type):
        return [] if _needs_none(value.__module__) else None
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    kind = type(value)
    if not _needs_none(kind.__module__):
        return [] if isinstance(value, _CONVERTED_BY_KERAS) else None
    if kind.__module__.partition(".")[0] in _WHOLE:
        return []
    if isinstance(value, Mapping):
        return [*value.values(), *_attributes(value)]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [*value, *_attributes(value)]
    if kind.__module__ == "builtins":
        return None
    return _attributes(value)


def _of_function(value: types.FunctionType) -> list[Any]:
    found = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    for cell in value.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # Not assigned yet.
            continue
    return [*found, *vars(value).values()]


def _attributes(value: Any) -> list[Any]:
    found = list(getattr(value, "__dict__", {}).values())
    for owner in type(value).__mro__:
        slots: Union[str, tuple[str, ...]] = vars(owner).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found.append(getattr(value, name))
    return found


def _needs_none(module: Any) -> bool:
    return isinstance(module, str) and module.partition(".")[0] in _NEED_NONE
