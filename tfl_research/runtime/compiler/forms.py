"""The map-reduce form of each process, compiled once and digested."""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Sequence

import numpy as np
import tensorflow_federated as tff

from tfl_research.runtime.compiler.map_reduce import MapReduce
from tfl_research.runtime.tracing.graph import Graph

_lock = threading.RLock()
_digests: weakref.WeakKeyDictionary[tff.templates.IterativeProcess, dict[str, str]] = (
    weakref.WeakKeyDictionary()
)
# Forms that were compiled for their digests and that no engine uses yet. An engine
# removes its form, since two engines cannot share the graphs of a form.
_unclaimed: weakref.WeakKeyDictionary[tff.templates.IterativeProcess, MapReduce] = (
    weakref.WeakKeyDictionary()
)


def claim(process: tff.templates.IterativeProcess) -> MapReduce:
    """Returns a form of the process that no other engine uses.

    Raises:
      UnsupportedProcess: the process has no map-reduce form.
    """
    with _lock:
        form = _unclaimed.pop(process, None) or MapReduce(process)
        _digests.setdefault(process, _form_digests(form))
        return form


def peek(process: tff.templates.IterativeProcess) -> MapReduce:
    """Returns a form of the process to look at, which an engine may claim later.

    Raises:
      UnsupportedProcess: the process has no map-reduce form.
    """
    with _lock:
        if process not in _unclaimed:
            _unclaimed[process] = MapReduce(process)
        return _unclaimed[process]


def digests(process: tff.templates.IterativeProcess) -> dict[str, str]:
    """SHA-256 of each part of the process' form; see `runtime.computation_digests`.

    Raises:
      UnsupportedProcess: the process has no map-reduce form.
    """
    with _lock:
        if process not in _digests:
            _digests[process] = _form_digests(peek(process))
        return dict(_digests[process])


def _form_digests(form: MapReduce) -> dict[str, str]:
    parts = {
        "initial_state": [form.initialize],
        "client_computation": [form.prepare, form.work],
        "aggregation": [
            form.zero,
            form.accumulate,
            form.merge,
            form.report,
            form.moduli,
        ],
        "server_update": [form.update],
    }
    return {name: graphs_digest(graphs) for name, graphs in parts.items()}


def graphs_digest(graphs: Sequence[Graph]) -> str:
    """SHA-256 of the operations, constants and types of graphs, without names."""
    digest = hashlib.sha256()
    for graph in graphs:
        constants = np.array(graph.constants, np.float32)
        digest.update(
            repr(
                (
                    graph.fingerprint,
                    # Without it, work that reads a client's age and work that reads its
                    # diagnosis would be the same.
                    graph.read,
                    constants.tobytes(),
                    str(graph.parameter_type),
                    str(graph.result_type),
                )
            ).encode()
        )
    return digest.hexdigest()
