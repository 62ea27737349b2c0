"""Finds the random operations in a process' computation; imports TensorFlow.

A process draws random numbers by the operations of TensorFlow in its computation:

- from a generator with a state, as `tf.random.normal` does and as
  `tff.aggregators.DifferentiallyPrivateFactory` therefore does: an execution that is
  repeated draws other numbers;
- by functions of a seed (`tf.random.stateless_...`), whose seed comes from the state or
  is a constant: an execution that is repeated draws the same numbers.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import runtime
from tfl_research.runtime.digests import computation_parts

_RANDOM = re.compile(
    r"(Stateless|Stateful)?(Random|ParameterizedTruncatedNormal|TruncatedNormal"
    r"|StandardNormal|Uniform|Truncated|Multinomial|Binomial|Poisson|Gamma)"
)
_NO_NUMBERS = re.compile(r".*(GetKeyCounter|GetAlg|Shuffle|Dataset|Seed|Queue)")
# Initial weights without a seed are drawn by a constant seed. These operations are in
# every client's graph, but their results are not used.
_UNIFORM = re.compile(r"StatelessRandomUniform(V2)?$|StatelessTruncatedNormal(V2)?$")


@dataclasses.dataclass(frozen=True)
class Randomness:
    """The random operations of a process.

    Attributes:
      anew: sorted: operations of `next` whose numbers differ when a round is repeated,
        and calls of Python.
      by_seed: operations of `next` that draw noise as a function of a seed; uniform
        numbers by a constant seed are those of initial weights.
    """

    anew: tuple[str, ...]
    by_seed: tuple[str, ...]

    @property
    def is_repeatable(self) -> bool:
        """Whether `next` is a function of its arguments."""
        return not self.anew

    @property
    def drawn(self) -> tuple[str, ...]:
        """The operations of `next` that draw random numbers in rounds."""
        drawing = [
            name
            for name in self.anew
            if _RANDOM.match(name) and not _NO_NUMBERS.match(name)
        ]
        return tuple(sorted({*drawing, *self.by_seed}))


def randomness(process: tff.templates.IterativeProcess) -> Randomness:
    """Finds the random operations of a process."""
    in_next = _operations(process.next)
    by_seed = [
        name
        for name in in_next
        if name.startswith("Stateless")
        and _RANDOM.match(name)
        and not _NO_NUMBERS.match(name)
        and not _UNIFORM.match(name)
    ]
    for nodes in _graphs(process.next):
        by_seed += _uniform_of_a_seed(nodes)
    return Randomness(
        tuple(sorted(filter(runtime.is_unrepeatable_operation, in_next))),
        tuple(sorted(set(by_seed))),
    )


def loose_digest(process: tff.templates.IterativeProcess) -> dict[str, str]:
    """Computes digests of a process by which two starts of a run are compared.

    The digests cover the types, the operations and their number, TFF's literals, and
    the float constants of graphs. `runtime.computation_digests` also covers constants
    that are integers. Some of these are seeds that Keras draws at each start of a
    program, for initial weights without a seed. So those digests differ between two
    starts of the same process.

    Args:
      process: the process of the run.
    """
    parts = {"initial_state": process.initialize, "round": process.next}
    return {name: _loose(computation) for name, computation in parts.items()}


def _loose(computation: tff.Computation) -> str:
    operations: collections.Counter[str] = collections.Counter()
    constants: collections.Counter[str] = collections.Counter()
    for node in _nodes(computation):
        operations[node.op] += 1
        if node.op != "Const":
            continue
        dtype = tf.as_dtype(node.attr["dtype"].type)
        if dtype.is_floating:
            array = tf.make_ndarray(node.attr["value"].tensor)
            constants[np.asarray(array, np.float64).tobytes().hex()] += 1
    for part in computation_parts(computation):
        if part.WhichOneof("computation") == "literal":
            content = part.literal.SerializeToString(deterministic=True)
            constants[content.hex()] += 1
    described = (
        str(computation.type_signature),
        sorted(operations.items()),
        sorted(constants.items()),
    )
    return hashlib.sha256(repr(described).encode()).hexdigest()


def _operations(computation: tff.Computation) -> set[str]:
    return {node.op for node in _nodes(computation)}


def _nodes(computation: tff.Computation) -> Iterator[Any]:
    """Yields the nodes of all graphs of a computation."""
    for nodes in _graphs(computation):
        yield from nodes


def _graphs(computation: tff.Computation) -> Iterator[list[Any]]:
    """Yields the nodes of each graph and each function of a computation."""
    for part in computation_parts(computation):
        if part.WhichOneof("computation") != "tensorflow":
            continue
        graph_def = tf.compat.v1.GraphDef()
        part.tensorflow.graph_def.Unpack(graph_def)
        yield list(graph_def.node)
        for function in graph_def.library.function:
            yield list(function.node_def)


def _uniform_of_a_seed(nodes: list[Any]) -> list[str]:
    """Finds operations of a graph that draw uniform numbers by a seed from outside."""
    by_name = {node.name: node for node in nodes}

    def is_given(name: str, seen: set[str]) -> bool:
        """Whether a value depends on a placeholder or an argument."""
        name = name.lstrip("^").split(":")[0]
        if name in seen:
            return False
        seen.add(name)
        node = by_name.get(name)
        if node is None or node.op == "Placeholder":
            return True
        return any(is_given(each, seen) for each in node.input)

    return [
        node.op
        for node in nodes
        if _UNIFORM.match(node.op)
        # The first input is the shape.
        and any(is_given(each, set()) for each in node.input[1:])
    ]
