"""Digests of what a TFF process computes, to compare a run's starts."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Mapping
from typing import Any

import tensorflow_federated as tff

from tfl_research.runtime.compiler import forms
from tfl_research.runtime.compiler.conversion import UnsupportedProcess
from tfl_research.runtime.compiler.graphs import Graph

_others: weakref.WeakKeyDictionary[tff.templates.IterativeProcess, dict[str, str]] = (
    weakref.WeakKeyDictionary()
)


def computation_digests(process: tff.templates.IterativeProcess) -> dict[str, str]:
    """Digests of the parts of a process, equal for the same recipe built anywhere.

    Every operation, constant and type counts. Names do not count, since they have
    counters of the Python process. Other versions of TensorFlow or of this package can
    build other graphs from the same recipe, with other digests.

    `in_process` uses the same map-reduce form. The form is compiled once, in the first
    call of either function.

    Example:

        folder.check_computation(runtime.computation_digests(process))

    Args:
      process: any `tff.templates.IterativeProcess`.

    Returns:
      SHA-256 digests in hexadecimal: of "initial_state", "client_computation",
      "aggregation" and "server_update"; for a process without a map-reduce form of
      "initial_state" and "round".
    """
    if process in _others:
        return dict(_others[process])
    try:
        return forms.digests(process)
    except UnsupportedProcess:
        _others[process] = {
            "initial_state": computation_digest(process.initialize),
            "round": computation_digest(process.next),
        }
        return dict(_others[process])


def computation_digest(computation: tff.Computation) -> str:
    """SHA-256 of a TFF computation, without the names in it."""
    message = tff.framework.serialize_computation(computation)
    return _Digester().digest(message, {})


class _Digester:
    """Digests the building blocks of one computation."""

    def __init__(self) -> None:
        self._bound = 0

    def _bind(self, name: str, names: Mapping[str, int]) -> dict[str, int]:
        """Adds a name to the names in scope; names are numbered in order of binding."""
        self._bound += 1
        return {**names, name: self._bound}

    def digest(self, message: Any, names: Mapping[str, int]) -> str:
        """SHA-256 of a serialised computation.

        Args:
          message: a `Computation` of TFF's protocol.
          names: a number for each name in scope.
        """
        kind = message.WhichOneof("computation")
        part = getattr(message, kind)
        content: Any
        if kind == "tensorflow":
            graph = Graph(tff.framework.deserialize_computation(message))
            content = forms.graphs_digest([graph])
        elif kind == "block":
            content = []
            for local in part.local:
                content.append(self.digest(local.value, names))
                names = self._bind(local.name, names)
            content.append(self.digest(part.result, names))
        elif kind == "call":
            content = [self.digest(part.function, names)]
            if part.HasField("argument"):
                content.append(self.digest(part.argument, names))
        elif kind == "lambda":
            inner = self._bind(part.parameter_name, names)
            content = self.digest(part.result, inner)
        elif kind == "reference":
            content = names[part.name]
        elif kind == "selection":
            content = (self.digest(part.source, names), part.index)
        elif kind == "struct":
            content = [
                (element.name, self.digest(element.value, names))
                for element in part.element
            ]
        else:
            # Intrinsics, placements, literals and data have no local names.
            content = part.SerializeToString(deterministic=True)
        type_bytes = message.type.SerializeToString(deterministic=True)
        return hashlib.sha256(repr((kind, type_bytes, content)).encode()).hexdigest()
