"""Removes the arguments of called functions that the functions do not read."""

from __future__ import annotations

import collections
import copy
from collections.abc import Sequence
from typing import Any

from tfl_research import _tff_compat

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def remove_unread(graph_def: Any) -> None:
    """Removes unread arguments of the functions that the graph itself calls.

    A client's function takes all members of the client's data. So without this, the
    graph seems to read members that no operation uses. Functions with several callers
    do not change.

    Args:
      graph_def: a GraphDef with its function library, which changes.
    """
    functions = {f.signature.name: f for f in graph_def.library.function}
    callers = collections.Counter(
        reference.name
        for nodes in (graph_def.node, *(f.node_def for f in functions.values()))
        for node in nodes
        for reference in _tff_compat.function_references(node)
    )
    for node in graph_def.node:
        if node.op in _CALLS and callers[node.attr["f"].func.name] == 1:
            _remove(node, functions[node.attr["f"].func.name])


def _remove(call: Any, function: Any) -> None:
    """Removes a function's unread arguments from its definition and its only call."""
    read = {
        reference.lstrip("^").partition(":")[0]
        for node in function.node_def
        for reference in node.input
    }
    read.update(result.partition(":")[0] for result in function.ret.values())
    arguments = list(function.signature.input_arg)
    kept = [i for i, argument in enumerate(arguments) if argument.name in read]
    if len(kept) == len(arguments):
        return
    # Control inputs come after the arguments.
    _keep(call.input, [*kept, *range(len(arguments), len(call.input))])
    _keep(call.attr["Tin"].list.type, kept)
    attributes = [copy.deepcopy(function.arg_attr[index]) for index in kept]
    function.arg_attr.clear()
    for index, attribute in enumerate(attributes):
        function.arg_attr[index].CopyFrom(attribute)
    if "_input_shapes" in function.attr:
        _keep(function.attr["_input_shapes"].list.shape, kept)
    _keep(function.signature.input_arg, kept)


def _keep(repeated: Any, places: Sequence[int]) -> None:
    """Removes all entries of a repeated field except those at the given places."""
    entries = [copy.deepcopy(repeated[place]) for place in places]
    del repeated[:]
    repeated.extend(entries)
