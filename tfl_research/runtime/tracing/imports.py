"""Graphs in the two forms in which they are added to the graph that is being traced."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Optional

import tensorflow as tf

from tfl_research.runtime.graphs.bodies import Body, Library
from tfl_research.runtime.graphs.in_place import reuse_buffers
from tfl_research.runtime.graphs.inlining import Inlined
from tfl_research.runtime.graphs.loading import Loader
from tfl_research.runtime.tracing import control_flow, reductions, variables
from tfl_research.runtime.tracing.interpreter import Interpreter, State

_HANDLERS = {**variables.HANDLERS, **control_flow.HANDLERS, **reductions.HANDLERS}


@dataclasses.dataclass(frozen=True)
class Use:
    """How a graph is added to a program.

    Attributes:
      in_place: whether additions to arguments may reuse their buffers, see
        `compiler.in_place`; not for XLA.
      guarded: whether XLA compiles the program, so that guards are needed.
      compiled_loops: whether XLA compiles the loops over clients' batches alone.
      at_once: whether clients are executed at once.
    """

    in_place: bool = False
    guarded: bool = False
    compiled_loops: bool = False
    at_once: bool = False


PLAIN = Use()


class Import:
    """A pure graph without function calls, imported as a whole.

    Attributes:
      graph_def: the graph without its arguments. `trace` maps the arguments; a
        compiler would reject placeholders that stay behind.
      outputs: tensor names of the graph's results.
    """

    def __init__(
        self,
        graph_def: Any,
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        in_place: bool,
    ):
        inlined = Inlined(
            graph_def, {f.signature.name: f for f in graph_def.library.function}
        )
        self.graph_def = inlined.graph_def
        self.outputs = [inlined.tensor(name) for name in outputs]
        self._inputs = list(inputs)
        self._loader = Loader(graph_def.library)
        for node in self.graph_def.node:
            self._loader.rename_references(node)
        # Other nodes may only be colocated with a node that is an argument of a part
        # of the computation. Such an argument has no value, and XLA rejects it.
        body = Body(self.graph_def.node, inputs, self.outputs)
        needed = {node.name for node in body.order(self.outputs)}
        needed -= {name.partition(":")[0] for name in inputs}
        kept = [node for node in self.graph_def.node if node.name in needed]
        for node in kept:
            # The attribute may name a node that is left out; there is one device.
            node.attr.pop("_class", None)
        del self.graph_def.node[:]
        self.graph_def.node.extend(kept)
        if in_place:
            reuse_buffers(self.graph_def)

    def trace(
        self, arguments: Sequence[Any]
    ) -> tuple[list[tf.Tensor], Optional[tf.Tensor]]:
        """Adds it to the graph that is being traced; see `Graph.trace`."""
        self._loader.add_to(tf.compat.v1.get_default_graph())
        used = set(self.outputs)
        for node in self.graph_def.node:
            used.update(i if ":" in i else f"{i}:0" for i in node.input)
        given = zip(self._inputs, arguments)
        results = tf.graph_util.import_graph_def(
            self.graph_def,
            input_map={name: _here(value) for name, value in given if name in used},
            return_elements=self.outputs,
            name="computation",
        )
        return results, None


class Interpreted:
    """A graph that is interpreted: `trace` executes its nodes one after another."""

    def __init__(self, graph_def: Any, body: Body, initialize_op: str, use: Use):
        self._body = body
        self._initialize_op = initialize_op
        self._guarded = use.guarded or use.compiled_loops
        self._interpreter = Interpreter(
            Library(graph_def),
            Loader(graph_def.library),
            _HANDLERS,
            guarded=use.guarded,
            compiled_loops=use.compiled_loops,
            in_place=use.in_place,
            at_once=use.at_once,
        )

    def trace(
        self, arguments: Sequence[Any]
    ) -> tuple[list[tf.Tensor], Optional[tf.Tensor]]:
        """Adds it to the graph that is being traced; see `Graph.trace`."""
        state = State({}, tf.constant(False))
        if self._initialize_op:
            self._interpreter.initialize(self._body, self._initialize_op, state)
        values = [
            _here(value) if isinstance(value, tf.Tensor) else value
            for value in arguments
        ]
        results = self._interpreter.run(self._body, values, state)
        return list(results), state.violated if self._guarded else None


def _here(value: Any) -> tf.Tensor:
    """Converts a value to a tensor of the graph that is being traced."""
    graph = tf.compat.v1.get_default_graph()
    if tf.is_symbolic_tensor(value) and value.graph is graph:
        return value
    return tf.identity(value)
