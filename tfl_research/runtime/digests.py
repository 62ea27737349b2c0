"""Digests of a TFF process' computations, to compare a run's starts."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterator
from typing import Any

import tensorflow_federated as tff

from tfl_research.runtime.compiler import forms
from tfl_research.runtime.conversion.process_forms import UnsupportedProcess
from tfl_research.runtime.graphs.building_blocks import BuildingBlocks
from tfl_research.runtime.tracing.graph import Graph, operation_types

_others: weakref.WeakKeyDictionary[tff.templates.IterativeProcess, dict[str, str]] = (
    weakref.WeakKeyDictionary()
)
# Python functions, and generators with a state. The names of stateless generators begin
# with "Stateless".
_UNREPEATABLE = re.compile(
    r"(Eager)?PyFunc|Random(?!Dataset)|Stateful(Random|Uniform|StandardNormal|Truncated)"
    r"|Multinomial|(Parameterized)?TruncatedNormal|Timestamp"
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


def unrepeatable_operations(process: tff.templates.IterativeProcess) -> list[str]:
    """Names of a process' operations that no digest covers, sorted.

    These operations call Python functions, for which a graph has only a number; or they
    draw from generators with a state outside of the graph, so that a resumed run draws
    other numbers.
    """
    found: set[str] = set()
    for computation in (process.initialize, process.next):
        for part in computation_parts(computation):
            if part.WhichOneof("computation") == "tensorflow":
                found |= operation_types(part.tensorflow)
    return sorted(filter(is_unrepeatable_operation, found))


def is_unrepeatable_operation(name: str) -> bool:
    """Whether an operation of this name is one of `unrepeatable_operations`."""
    return _UNREPEATABLE.match(name) is not None


def computation_parts(computation: tff.Computation) -> Iterator[Any]:
    """The computation as a message of TFF's protocol, and all computations in it."""
    yield from _parts(tff.framework.serialize_computation(computation))


def _parts(message: Any) -> Iterator[Any]:
    yield message
    kind = message.WhichOneof("computation")
    part = getattr(message, kind)
    inner: list[Any] = []
    if kind == "block":
        inner = [*(local.value for local in part.local), part.result]
    elif kind == "call":
        inner = [part.function]
        if part.HasField("argument"):
            inner.append(part.argument)
    elif kind == "lambda":
        inner = [part.result]
    elif kind == "selection":
        inner = [part.source]
    elif kind == "struct":
        inner = [element.value for element in part.element]
    for each in inner:
        yield from _parts(each)


def computation_digest(computation: tff.Computation) -> str:
    """SHA-256 of a TFF computation, without the names in it."""
    message = tff.framework.serialize_computation(computation)
    return BuildingBlocks(_graph_digest).digest(message)


def _graph_digest(message: Any) -> str:
    graph = Graph(tff.framework.deserialize_computation(message))
    return forms.graphs_digest([graph])
