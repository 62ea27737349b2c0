"""Removes the arguments of called functions that the functions do not read."""

from __future__ import annotations

import collections
import copy
from collections.abc import Callable, Sequence
from typing import Any

from tfl_research import _tff_compat

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def remove_unread(graph_def: Any, inputs: Sequence[str]) -> None:
    """Removes unread arguments of the functions that the graph itself calls.

    A client's function takes all members of the client's data. So without this, the
    graph seems to read members that no operation uses. Functions with several callers
    do not change. Arguments that are computed do not change either: the call executes
    what they depend on, such as a check of a member's values.

    Args:
      graph_def: a GraphDef with its function library, which changes.
      inputs: tensor names of the graph's arguments that may be removed from calls.
    """
    functions = {f.signature.name: f for f in graph_def.library.function}
    callers = collections.Counter(
        reference.name
        for nodes in (graph_def.node, *(f.node_def for f in functions.values()))
        for node in nodes
        for reference in _tff_compat.function_references(node)
    )
    names = {name.partition(":")[0] for name in inputs}
    # A node can come before the nodes that it needs.
    forwards = {
        node.name: node.input[0].partition(":")[0]
        for node in graph_def.node
        if node.op == "Identity" and len(node.input) == 1
    }

    def is_input(reference: str) -> bool:
        name = reference.partition(":")[0]
        while name in forwards:
            name = forwards[name]
        return name in names

    for node in graph_def.node:
        if node.op in _CALLS and callers[node.attr["f"].func.name] == 1:
            _remove(node, functions[node.attr["f"].func.name], is_input)


def _remove(call: Any, function: Any, may_go: Callable[[str], bool]) -> None:
    """Removes a function's unread arguments from its definition and its only call.

    Args:
      call: the NodeDef of the call.
      function: the FunctionDef.
      may_go: whether an input of the call may be removed if it is not read.
    """
    read = {
        reference.lstrip("^").partition(":")[0]
        for node in function.node_def
        for reference in node.input
    }
    read.update(result.partition(":")[0] for result in function.ret.values())
    arguments = list(function.signature.input_arg)
    kept = [
        index
        for index, (argument, given) in enumerate(zip(arguments, call.input))
        if argument.name in read or not may_go(given)
    ]
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
