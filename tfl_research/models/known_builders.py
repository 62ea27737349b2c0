"""What one process makes again and again from the toolkit's own functions.

The points of a sweep have the same model, whose tracing takes longer than a short run.
A function of the toolkit's own that holds nothing but numbers and names makes the same
thing at each call, so that one is enough. Of any other function nothing is known: it
may read a file, count its calls, or be changed between two runs.
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
# Things that are kept. The points of a sweep have one model.
_MOST = 12

_lock = threading.RLock()
_made: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()


def key_of(builder: Any) -> Optional[Hashable]:
    """A key for the behaviour of a function of the toolkit's own; None for others.

    Args:
      builder: any value. Two functions of equal keys make equal things.
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
        # 1 and True are equal, and may mean something else.
        values.append((type(value).__name__, repr(value)))
    return builder.__module__, builder.__code__, tuple(values), _settings_of_keras()


def _settings_of_keras() -> tuple[Any, ...]:
    """The settings of Keras for all models: precision, epsilon, order of axes."""
    import tensorflow as tf

    return (
        tf.keras.backend.floatx(),
        tf.keras.backend.epsilon(),
        tf.keras.backend.image_data_format(),
        repr(tf.keras.mixed_precision.global_policy().get_config()),
        tf.config.functions_run_eagerly(),
    )


def made_once(key: Hashable, make: Callable[[], _Made]) -> _Made:
    """The result of `make` for this key, which is made again only if it was dropped.

    Args:
      key: says all that the result depends on.
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
    """Forgets everything, so that it is made again."""
    with _lock:
        _made.clear()
