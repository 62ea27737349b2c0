"""Fingerprints of TensorFlow graphs, which do not depend on names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from tfl_research import _tff_compat
from tfl_research.runtime.graphs.constants import is_scalar
from tfl_research.runtime.graphs.open_constants import in_order


def fingerprint(
    graph_def: Any,
    inputs: Iterable[str],
    outputs: Iterable[str],
    open_functions: frozenset[str] = frozenset(),
    is_open: Callable[[Any], bool] = is_scalar,
) -> str:
    """Computes a digest that is equal for graphs of equal structure.

    Names are ignored, but not whether two resources have the same name. The values of
    open constants in the graph itself and in `open_functions` are also ignored; by
    default, the open constants are the scalar floats (`constants.ScalarConstants`).

    Names have counters of the Python process: the layers of a second Keras model and
    further traced functions get higher numbers. So the same recipe, built twice, gives
    two graphs with equal operations and different names.

    Args:
      graph_def: a GraphDef with its function library.
      inputs: tensor names of the graph's arguments, in order.
      outputs: tensor names of its results, in order.
      open_functions: names of functions in which open constants are ignored.
      is_open: whether the value of a NodeDef, a constant, is ignored.
    """
    functions = {f.signature.name: f for f in graph_def.library.function}
    digests: dict[str, str] = {}

    def function_digest(name: str) -> str:
        if name not in digests:
            function = functions[name]
            names = {
                argument.name: f"argument {index}"
                for index, argument in enumerate(function.signature.input_arg)
            }
            results = [
                function.ret[argument.name]
                for argument in function.signature.output_arg
            ]
            kinds = [
                argument.SerializeToString(deterministic=True)
                for argument in map(_nameless, function.signature.input_arg)
            ]
            digests[name] = nodes_digest(
                function.node_def, names, results, kinds, name in open_functions
            )
        return digests[name]

    def nodes_digest(
        nodes: Any,
        names: dict[str, str],
        results: Iterable[str],
        kinds: list[bytes],
        blank: bool,
    ) -> str:
        names = dict(names)
        for index, node in enumerate(nodes):
            names.setdefault(node.name, f"node {index}")

        def renamed(reference: str) -> str:
            control = reference.startswith("^")
            owner, colon, output = reference.lstrip("^").partition(":")
            return f"{'^' * control}{names.get(owner, owner)}{colon}{output}"

        digest = hashlib.sha256()
        for kind in kinds:
            digest.update(kind)
        for node in nodes:
            bare = type(node)()
            bare.CopyFrom(node)
            bare.name = names[node.name]
            del bare.input[:]
            bare.input.extend(renamed(reference) for reference in node.input)
            for reference in _tff_compat.function_references(bare):
                reference.name = function_digest(reference.name)
            # `config_proto` has the number of the machine's GPUs.
            for key in ("_class", "_gradient_op_type", "config_proto", "shared_name"):
                bare.attr.pop(key, None)
            if blank and is_open(bare):
                bare.attr["value"].tensor.Clear()
            bare.ClearField("experimental_debug_info")
            digest.update(bare.SerializeToString(deterministic=True))
        digest.update(repr([renamed(result) for result in results]).encode())
        return digest.hexdigest()

    given = {
        name.partition(":")[0]: f"argument {index}" for index, name in enumerate(inputs)
    }
    digest = nodes_digest(graph_def.node, given, outputs, [], True)
    same = _same_resources(graph_def)
    return hashlib.sha256(f"{digest} {same}".encode()).hexdigest() if same else digest


def _same_resources(graph_def: Any) -> list[int]:
    """Tells which resources, such as variables, are the same resource.

    Returns:
      For each named resource the number of the first resource with its name; empty if
      no two resources have the same name.
    """
    names = [
        tuple(node.attr[key].s for key in ("container", "shared_name"))
        for node in in_order(graph_def)
        if {"container", "shared_name"} <= set(node.attr) and node.attr["shared_name"].s
    ]
    numbers = [names.index(name) for name in names]
    return numbers if len(set(numbers)) < len(numbers) else []


def _nameless(argument: Any) -> Any:
    bare = type(argument)()
    bare.CopyFrom(argument)
    bare.name = ""
    return bare
