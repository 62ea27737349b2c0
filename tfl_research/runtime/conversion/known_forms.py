"""Reuses map-reduce forms that were compiled in this process, with other constants.

TFF takes seconds to compile a form. It moves the TensorFlow graphs of a computation
into the form without looking at their numbers. So each float constant of the
computation gets a number as an attribute, and the form shows where the constant is. If
a computation differs from an earlier one only in float constants, such as a learning
rate, it gets the earlier form with its own constants.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.runtime.graphs import open_constants
from tfl_research.runtime.graphs.building_blocks import BuildingBlocks
from tfl_research.runtime.graphs.fingerprint import fingerprint
from tfl_research.runtime.graphs.parts import Part
from tfl_research.runtime.graphs.structures import tensor_names as names

# An attribute whose name begins with "_" means nothing to TensorFlow, and is kept.
_NUMBER = "_tfl_research_constant"
# The largest number of kept forms; a sweep alternates between a few forms.
_MOST = 16


@dataclasses.dataclass(frozen=True)
class Form:
    """The parts of a round; see `tff.backends.mapreduce.MapReduceForm`."""

    prepare: Part
    work: Part
    zero: Part
    accumulate: Part
    merge: Part
    report: Part
    secure_sum_bitwidth: Part
    secure_sum_max_input: Part
    secure_modular_sum_modulus: Part
    update: Part


_PARTS = tuple(field.name for field in dataclasses.fields(Form))
_lock = threading.Lock()
# Messages of the parts, with numbered constants; the form used last is at the end.
_known: collections.OrderedDict[str, tuple[Any, ...]] = collections.OrderedDict()


def form_of(
    computation: tff.Computation, compile_form: Callable[[tff.Computation], Any]
) -> Form:
    """Returns the form of a computation, from an equal earlier computation if possible.

    Args:
      computation: `process.next`.
      compile_form: compiles a computation to its `MapReduceForm`.
    """
    numbered = _Numbered(computation)
    with _lock:
        parts = _known.get(numbered.structure)
    if parts is None:
        compiled = compile_form(numbered.computation)
        parts = tuple(
            tff.framework.serialize_computation(getattr(compiled, name))
            for name in _PARTS
        )
    with _lock:
        _known[numbered.structure] = parts
        _known.move_to_end(numbered.structure)
        while len(_known) > _MOST:
            _known.popitem(last=False)
    return Form(*(_with_constants(part, numbered.constants) for part in parts))


def forget() -> None:
    """Drops all kept forms."""
    with _lock:
        _known.clear()


def _with_constants(part: Any, constants: Sequence[Any]) -> Part:
    """A part of a form with constants in the place of the numbered ones.

    Args:
      part: a `Computation` of TFF's protocol, by TensorFlow.
      constants: TensorProtos, by number.
    """
    message = type(part)()
    message.CopyFrom(part)
    graph_def = _graph_def(message.tensorflow)
    for nodes in [graph_def.node, *(f.node_def for f in graph_def.library.function)]:
        for node in nodes:
            if _NUMBER in node.attr:
                number = node.attr.pop(_NUMBER).i
                node.attr["value"].tensor.CopyFrom(constants[number])
    message.tensorflow.graph_def.Pack(graph_def)
    return Part.of(tff.framework.deserialize_computation(message))


def _graph_def(message: Any) -> Any:
    graph_def = tf.compat.v1.GraphDef()
    message.graph_def.Unpack(graph_def)
    return graph_def


class _Numbered:
    """A computation whose float constants have numbers.

    Attributes:
      computation: with the numbers.
      constants: TensorProtos, by number.
      structure: digest of everything but names and the values of these constants.
    """

    def __init__(self, computation: tff.Computation):
        given = tff.framework.serialize_computation(computation)
        message = type(given)()
        message.CopyFrom(given)
        self.constants: list[Any] = []
        # The numbered form of each TensorFlow computation, by its bytes. Equal
        # computations stay equal, since TFF may treat them as the same.
        self._taken: dict[bytes, tuple[int, bytes, Any]] = {}
        self.structure = BuildingBlocks(self._take).digest(message)
        self.computation = tff.framework.deserialize_computation(message)

    def _take(self, message: Any) -> Any:
        """Numbers the constants of a computation; returns its other content."""
        given = message.SerializeToString(deterministic=True)
        if given not in self._taken:
            described = self._number(message.tensorflow)
            numbered = message.SerializeToString(deterministic=True)
            self._taken[given] = len(self._taken), numbered, described
        index, numbered, described = self._taken[given]
        message.ParseFromString(numbered)
        return index, described

    def _number(self, message: Any) -> Any:
        """Numbers a `TensorFlow` message's constants; returns its other content."""
        graph_def = _graph_def(message)
        inputs, outputs = names(message.parameter), names(message.result)
        roots = [*outputs, *filter(None, [message.initialize_op])]
        # If a shape may depend on the constants, all constants belong to the structure.
        is_open = open_constants.is_float
        if not open_constants.decide_nothing(graph_def):
            is_open = _never
        functions = frozenset(f.signature.name for f in graph_def.library.function)
        digest = fingerprint(graph_def, inputs, roots, functions, is_open)
        for node in open_constants.in_order(graph_def):
            if is_open(node):
                node.attr[_NUMBER].i = len(self.constants)
                self.constants.append(node.attr["value"].tensor)
        message.graph_def.Pack(graph_def)
        # Two resources with the same name are the same resource.
        shared = [
            node.attr["shared_name"].s
            for node in open_constants.in_order(graph_def)
            if "shared_name" in node.attr
        ]
        counts = len(inputs), len(outputs), bool(message.initialize_op)
        return digest, *counts, shared


def _never(node: Any) -> bool:
    del node
    return False
