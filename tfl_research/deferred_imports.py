"""Imports TensorFlow Federated without the packages that it hardly ever uses.

TFF imports tensorflow-privacy, and that imports TensorFlow Probability, for the samples
of a discrete Gaussian alone. Its import takes as long as all of TFF's own modules.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
import types
from typing import Any

_SELDOM_USED = "tensorflow_probability"
_loading = threading.RLock()


class _Deferred(types.ModuleType):
    """Stands for a module that is imported when something of it is first used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_loaded(self), name)


def _loaded(stand_in: _Deferred) -> types.ModuleType:
    name = stand_in.__name__
    with _loading:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
            try:
                importlib.import_module(name)
            except BaseException:
                sys.modules[name] = stand_in
                raise
    return sys.modules[name]


def import_tff() -> None:
    """Imports TFF, and TensorFlow Probability not before its first use.

    Code that imports TensorFlow Probability later, or has imported it already, gets the
    whole package: a stand-in is a module like others, and gives what the module has.
    """
    with _loading:
        if _SELDOM_USED not in sys.modules:
            spec = importlib.util.find_spec(_SELDOM_USED)
            if spec is not None:
                stand_in = _Deferred(_SELDOM_USED)
                # What others ask of every module, as `inspect` does. Without __path__,
                # an import of a submodule loads the package first.
                stand_in.__file__, stand_in.__spec__ = spec.origin, spec
                stand_in.__loader__ = spec.loader
                sys.modules[_SELDOM_USED] = stand_in
    importlib.import_module("tensorflow_federated")
