"""TensorFlow graphs of compiled TFF computations, callable in this process."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional, Union

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.runtime.graphs import lists, operations
from tfl_research.runtime.graphs.bodies import Body, Library
from tfl_research.runtime.graphs.constants import ScalarConstants
from tfl_research.runtime.graphs.fingerprint import fingerprint
from tfl_research.runtime.graphs.limits_of_xla import data_sizes, guards
from tfl_research.runtime.graphs.parts import Part
from tfl_research.runtime.graphs.unread import remove_unread
from tfl_research.runtime.tracing import other_forms
from tfl_research.runtime.tracing.imports import PLAIN, Import, Interpreted, Use


class Graph:
    """One TensorFlow computation of a `MapReduceForm`, as a function of flat tensors.

    Attributes:
      parameter_type: the computation's TFF parameter type, or None.
      result_type: its TFF result type.
      op_types: names of all operations that the graph executes, functions included.
      untraceable: the operations that `trace` cannot add to a program.
      seeded: the random generators that have a seed.
      pure: whether all operations are pure; `trace` interprets a graph that is not.
      read: indices of the arguments that results depend on, and of all arguments after
        the `optional` ones.
      fingerprint: a digest that is equal for computations that differ only in names,
        in the values of `constants`, and in arguments that are not in `read`.
      constants: values of the graph's scalar float constants, by position.
      arguments: indices of the constants that compiled programs always take as
        arguments.

    Args:
      computation: the computation.
      optional: how many of the first arguments may be missing in `read`.
    """

    def __init__(self, computation: Union[tff.Computation, Part], *, optional: int = 0):
        part = computation
        if not isinstance(part, Part):
            part = Part.of(part)
        self.parameter_type = part.parameter_type
        self.result_type = part.result_type
        self._inputs, self._outputs = part.inputs, part.outputs
        self._initialize_op = part.initialize_op
        roots = [*self._outputs, *filter(None, [self._initialize_op])]
        graph_def = _needed(part.graph_def, roots)
        if optional:
            remove_unread(graph_def, self._inputs[:optional])
            graph_def = _needed(graph_def, roots)
        library = Library(graph_def)
        nodes = list(library.reachable(graph_def.node))
        self.op_types = {node.op for node in nodes}
        self.untraceable = sorted(
            op for op in self.op_types if not operations.is_traceable(op)
        )
        self.seeded = sorted({node.op for node in nodes if operations.has_seed(node)})
        self.pure = not self._initialize_op and all(
            operations.is_pure(op) for op in self.op_types
        )
        # Whether `trace` looks at single nodes. The key is whether XLA compiles.
        self._interpreted = {
            for_xla: any(
                other_forms.may_have(node, for_xla=for_xla)
                or (for_xla and guards.is_guarded(node))
                or (for_xla and data_sizes.is_concerned(node))
                for node in nodes
            )
            for for_xla in (True, False)
        }
        self._places = _places(nodes)
        self._places_of_lists = _places(lists.growing(library, nodes))
        self._places_in_loops = _places(
            inner
            for node in nodes
            if node.op == operations.REDUCE
            for name in library.called(node)
            for inner in library.reachable(library.body(name).nodes.values())
        )
        self._runnable: Any = None
        self._imports: dict[tuple[tuple[int, ...], Use], Any] = {}
        self._graph_def = graph_def
        self._scalars = ScalarConstants(graph_def)
        self.constants = tuple(self._scalars.values)
        self.arguments = tuple(self._scalars.arguments)
        names = {node.name for node in graph_def.node}
        self.read = [
            index
            for index, name in enumerate(self._inputs)
            if index >= optional or name.partition(":")[0] in names
        ]
        read = [self._inputs[index] for index in self.read]
        self.fingerprint = fingerprint(
            graph_def, read, self._outputs, self._scalars.functions
        )

    @property
    def how(self) -> str:
        """A text that says how `trace` adds the graph to programs."""
        if self.untraceable:
            return f"not added: {', '.join(self.untraceable)}"
        if self.pure and self._interpreted[False]:
            return "interpreted: some operations have another form"
        if self.pure:
            return "calls inlined, imported as a whole"
        kept = sorted(self.op_types & (operations.EFFECTS | {operations.REDUCE}))
        names = f" ({', '.join(kept)})" if kept else ""
        seeded = (
            f"; {', '.join(self.seeded)} with a seed draws other numbers than in TFF's "
            "runtime, where they depend on its sessions: use tf.random.stateless_*"
            if self.seeded
            else ""
        )
        return f"interpreted: variables are values of the graph{names}{seeded}"

    @property
    def sizes(self) -> list[int]:
        """Numbers of the graph's operations by the depth of loops around them."""
        return Library(self._graph_def).sizes(self._graph_def.node)

    @property
    def loops(self) -> str:
        """A digest of the graph's loops only, empty if there is no loop.

        The values of scalar constants do not count, as in `fingerprint`.
        """
        library = Library(self._graph_def)
        found = set()
        for node in library.reachable(self._graph_def.node):
            if node.op not in operations.LOOPS:
                continue
            alone = tf.compat.v1.GraphDef(library=self._graph_def.library, node=[node])
            del alone.node[0].input[:]
            found.add(fingerprint(alone, [], [], self._scalars.functions))
        return " ".join(sorted(found))

    def not_for_xla(self, *, loops: bool) -> list[str]:
        """Lists operations that XLA cannot compile, each with a place in the graph.

        Args:
          loops: whether only the loops over a client's dataset are compiled.
        """
        places = self._places_in_loops if loops else self._places
        found = {n: p for n, p in places.items() if n not in operations.COMPILED}
        found.update(self._places_of_lists)
        return [f"{operation} ({found[operation]})" for operation in sorted(found)]

    def _imported(self, lifted: tuple[int, ...], use: Use) -> Any:
        """Makes the graph with some constants as arguments, ready to be imported."""
        key = lifted, use
        if key not in self._imports:
            graph_def = self._graph_def
            names: list[str] = []
            if lifted:
                positions = [self._scalars.positions[i] for i in lifted]
                graph_def, names = self._scalars.lifted(positions)
            inputs = [*self._inputs, *names]
            if self.pure and not self._interpreted[use.guarded]:
                self._imports[key] = Import(
                    graph_def, inputs, self._outputs, in_place=use.in_place
                )
            else:
                body = Body(graph_def.node, inputs, self._outputs)
                self._imports[key] = Interpreted(
                    graph_def, body, self._initialize_op, use
                )
        return self._imports[key]

    @functools.cached_property
    def forwarded(self) -> list[Optional[int]]:
        """The index of the argument that each result copies, None for other results."""
        imported = Import(self._graph_def, self._inputs, self._outputs, in_place=False)
        forwards = {
            node.name: node.input[0]
            for node in imported.graph_def.node
            if node.op == "Identity" and len(node.input) == 1
        }
        found: list[Optional[int]] = []
        for name in imported.outputs:
            while name.partition(":")[0] in forwards:
                name = forwards[name.partition(":")[0]]
            name = name if ":" in name else f"{name}:0"
            known = name in self._inputs
            found.append(self._inputs.index(name) if known else None)
        return found

    @property
    def aliases(self) -> Optional[list[int]]:
        """The value of `forwarded` if all results copy arguments, else None."""
        if not self.pure:
            return None
        found = [index for index in self.forwarded if index is not None]
        return found if len(found) == len(self._outputs) else None

    def trace(
        self,
        *arguments: Any,
        lifted: Optional[Mapping[int, tf.Tensor]] = None,
        use: Use = PLAIN,
        violations: Optional[list[tf.Tensor]] = None,
    ) -> list[tf.Tensor]:
        """Adds the computation to the graph that is being traced.

        Args:
          *arguments: tensors, or `ClientSequence`s for datasets, in the order of the
            parameter type's leaves; any value where an argument is not in `read`.
          lifted: float32 scalars that replace some of `constants`, by index.
          use: how the graph is added.
          violations: a list to which this adds bool scalars: whether a guard was
            violated.

        Returns:
          Tensors in the order of the result type's leaves.

        Raises:
          CannotTrace: the graph has something that programs cannot hold.
        """
        lifted = lifted or {}
        imported = self._imported(tuple(lifted), use)
        results, violated = imported.trace([*arguments, *lifted.values()])
        if violated is not None and violations is not None:
            violations.append(violated)
        return results

    def run(self, *arguments: Any) -> list[tf.Tensor]:
        """Executes the computation once, from the initial values of its variables."""
        if self._runnable is None or self.seeded:
            # A generator with a seed begins anew in another graph, as in TFF's runtime.
            self._runnable = tf.function(
                self.trace, reduce_retracing=True, autograph=False
            )
        return list(self._runnable(*arguments))


def _places(nodes: Iterable[Any]) -> dict[str, str]:
    """Maps each operation to a node's name, which in Keras has the layer's name."""
    places: dict[str, str] = {}
    for node in nodes:
        places.setdefault(node.op, node.name.removeprefix("gradients/"))
    return places


def operation_types(message: Any) -> set[str]:
    """Returns the names of all operations in a serialised TensorFlow computation.

    Args:
      message: a `TensorFlow` message of TFF's protocol.
    """
    graph_def = tf.compat.v1.GraphDef()
    message.graph_def.Unpack(graph_def)
    nodes = [*graph_def.node]
    for function in graph_def.library.function:
        nodes += function.node_def
    return {node.op for node in nodes}


def _needed(graph_def: tf.compat.v1.GraphDef, roots: Sequence[str]) -> Any:
    """Returns the graph of the nodes that the roots need, with the function library."""
    wanted = sorted({name.partition(":")[0] for name in roots})
    kept = tf.compat.v1.graph_util.extract_sub_graph(graph_def, wanted)
    return tf.compat.v1.GraphDef(
        node=kept.node, versions=graph_def.versions, library=graph_def.library
    )
