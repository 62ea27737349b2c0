"""Keeps objects that the toolkit's own functions would make again in a process.

The points of a sweep have the same model, whose tracing takes longer than a short run.
A function of the toolkit that only holds numbers and names returns an equal object at
each call, so one call is enough. Any other function may read a file, count its calls,
or be changed between two runs, so its results are not kept.
"""

from __future__ import annotations

import collections
import threading
import types
from collections.abc import Callable, Hashable
from typing import Any, Optional, TypeVar

_Made = TypeVar("_Made")
_PACKAGE = __name__.partition(".")[0]
# Types whose values are equal if their texts are.
PLAIN = (bool, int, float, str, bytes, type(None))
# The largest number of kept objects; the points of a sweep usually have one model.
_MOST = 12

_lock = threading.RLock()
_made: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()


def key_of(builder: Any) -> Optional[Hashable]:
    """Returns a key of a toolkit function's behaviour; None for other functions.

    Args:
      builder: any value. Two functions with equal keys make equal objects.
    """
    if not isinstance(builder, types.FunctionType):
        return None
    if builder.__module__.partition(".")[0] != _PACKAGE:
        return None
    if builder.__defaults__ or builder.__kwdefaults__ or vars(builder):
        return None
    values = []
    for cell in builder.__closure__ or ():
        try:
            value = cell.cell_contents
        except ValueError:  # nothing is in it yet
            return None
        if type(value) not in PLAIN:
            return None
        # Python says 1 == True, but a function may distinguish them.
        values.append((type(value).__name__, repr(value)))
    return builder.__module__, builder.__code__, tuple(values), _settings_of_keras()


def _settings_of_keras() -> tuple[Any, ...]:
    """Returns Keras' settings for all models: precision, epsilon, order of axes."""
    import tensorflow as tf

    return (
        tf.keras.backend.floatx(),
        tf.keras.backend.epsilon(),
        tf.keras.backend.image_data_format(),
        repr(tf.keras.mixed_precision.global_policy().get_config()),
        tf.config.functions_run_eagerly(),
    )


def made_once(key: Hashable, make: Callable[[], _Made]) -> _Made:
    """Returns the result of `make` for this key; calls `make` only if necessary.

    Args:
      key: the key of everything on which the result depends.
      make: makes the result.
    """
    with _lock:
        if key not in _made:
            _made[key] = make()
            while len(_made) > _MOST:
                _made.popitem(last=False)
        _made.move_to_end(key)
        found: _Made = _made[key]
        return found


def forget() -> None:
    """Drops all kept objects."""
    with _lock:
        _made.clear()
