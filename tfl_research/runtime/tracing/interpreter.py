"""Adds graphs with variables, assertions and client datasets to other graphs.

The interpreter goes through a graph's nodes in the order of their execution, while
the traced graph is built. Variables become tensors, which the interpreter carries
through calls, loops and branches. A reduction of a client's dataset becomes a loop over
its stacked elements. All other nodes are copied. The resulting graph has no state, so
clients can share the graph, and XLA can compile it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional, Union

import tensorflow as tf

from tfl_research.runtime.graphs import operations
from tfl_research.runtime.graphs.bodies import Body, Library, node_name, tensor_name
from tfl_research.runtime.graphs.in_place import reuse_buffers
from tfl_research.runtime.graphs.limits_of_xla import data_sizes, dynamic_sizes, guards
from tfl_research.runtime.graphs.loading import Loader
from tfl_research.runtime.graphs.sequences import ClientSequence
from tfl_research.runtime.tracing import other_forms, rows


class CannotTrace(ValueError):
    """A graph has something that the toolkit's programs cannot hold."""


@dataclasses.dataclass(frozen=True)
class Variable:
    """The handle of a variable.

    Attributes:
      key: the variable's key in a `State`.
      shape: the variable's static shape.
      dtype: the variable's type.
    """

    key: str
    shape: tf.TensorShape
    dtype: tf.DType


Value = Union[tf.Tensor, Variable, ClientSequence]
# (trace, NodeDef) -> the values of the node's outputs.
Handler = Callable[["Trace", Any], list[Value]]


@dataclasses.dataclass
class State:
    """The state of a graph's execution.

    Attributes:
      variables: the value of each variable that has one.
      violated: whether a guard was violated, a bool scalar.
    """

    variables: dict[str, tf.Tensor]
    violated: tf.Tensor

    def copy(self) -> State:
        return State(dict(self.variables), self.violated)


class Interpreter:
    """Traces the nodes of one graph.

    Attributes:
      library: the graph's functions.
      loader: rebuilds the functions that are copied.
      handlers: for each operation that cannot be copied, the function that executes
        it.
      guarded: whether XLA compiles what is traced, so that guards are needed.
      compiled_loops: whether XLA compiles loops over clients' batches alone.
      at_once: whether clients are executed at once.
    """

    def __init__(
        self,
        library: Library,
        loader: Loader,
        handlers: Mapping[str, Handler],
        *,
        guarded: bool,
        compiled_loops: bool,
        in_place: bool = False,
        at_once: bool = False,
    ):
        self.library = library
        self.guarded = guarded
        self.compiled_loops = compiled_loops
        self.at_once = at_once
        self.loader = loader
        self.handlers = handlers
        self._in_place = in_place

    def within_xla(self) -> Interpreter:
        """Returns an interpreter for a part of the graph that XLA compiles."""
        return Interpreter(
            self.library,
            self.loader,
            self.handlers,
            guarded=True,
            compiled_loops=False,
        )

    def is_special(self, node: Any) -> bool:
        """Whether a node cannot be copied as it is."""
        if operations.needs_interpretation(node):
            return True
        return self.guarded and guards.is_guarded(node)

    def is_interpreted(self, node: Any) -> bool:
        """Whether a function with this node is interpreted, if it can be."""
        if self.is_special(node):
            return True
        if self.guarded and data_sizes.is_concerned(node):
            return True
        return other_forms.may_have(node, for_xla=self.guarded)

    def run(
        self,
        body: Body,
        arguments: Sequence[Value],
        state: State,
        results: Optional[Sequence[str]] = None,
    ) -> list[Value]:
        """Executes a body; changes `state`.

        Args:
          body: the nodes.
          arguments: their values, in the order of `body.arguments`.
          state: the state before the body; it becomes the state after the body.
          results: names of the tensors to return; by default the body's results.
        """
        wanted = body.results if results is None else list(results)
        roots = [*wanted, *body.controls]
        given = dict(zip(body.arguments, arguments))
        trace = Trace(self, given, state, self._in_place)
        for node in body.order(roots):
            if f"{node.name}:0" not in given:
                trace.add(node)
        trace.flush()
        return [trace.value(name) for name in wanted]

    def initialize(self, body: Body, initialize_op: str, state: State) -> None:
        """Executes the operation that gives variables their initial values.

        The operation does not depend on arguments.
        """
        trace = Trace(self, {}, state, False)
        for node in body.order([initialize_op]):
            trace.add(node)
        trace.flush()


class Trace:
    """One execution of a body."""

    def __init__(
        self,
        interpreter: Interpreter,
        given: Mapping[str, Value],
        state: State,
        in_place: bool,
    ):
        self.interpreter = interpreter
        self.state = state
        self._values: dict[str, Value] = dict(given)
        self._in_place = in_place
        # Nodes to copy, until one of their results is needed.
        self._pending: list[Any] = []

    def add(self, node: Any) -> None:
        """Executes a node, or notes that it has to be copied."""
        special = self._handler(node)
        outputs = self._other_form(node) if special is None else special(self, node)
        if outputs is None:
            self._pending.append(node)
            if self.interpreter.guarded and dynamic_sizes.is_concerned(node):
                self.flush()
                first: Any = self._values[f"{node.name}:0"]
                for index, output in dynamic_sizes.corrected(first.op).items():
                    self._values[f"{node.name}:{index}"] = output
            return
        for index, output in enumerate(outputs):
            self._values[f"{node.name}:{index}"] = output

    def _other_form(self, node: Any) -> Optional[list[tf.Tensor]]:
        """Computes a node in another form; returns None if the node is copied."""
        if not other_forms.may_have(node, for_xla=self.interpreter.guarded):
            return None
        if self.interpreter.at_once and rows.may_be_indexed(node):
            # `data_sizes` checks the copy: these clients have one size in common.
            return None
        names = [name for name in node.input if not name.startswith("^")]
        found = other_forms.of(node, [self.tensor(name, node) for name in names])
        if found is None:
            return None
        if found.violated is not None:
            self.state.violated |= found.violated
        return found.outputs

    def _handler(self, node: Any) -> Optional[Handler]:
        """Returns the function that executes a node; None if the node is copied."""
        interpreter = self.interpreter
        if node.op in ("Identity", *operations.SAME_DATASET):
            known = self._values.get(tensor_name(node.input[0]))
            if isinstance(known, (Variable, ClientSequence)):
                return lambda *_: [known]
        if node.op in operations.CONTROL_FLOW:
            special = interpreter.library.calls(node, interpreter.is_interpreted)
            if special or node.op in operations.CALLS:
                return interpreter.handlers[node.op]
            return None
        if node.op in operations.ASSERTIONS:
            return interpreter.handlers[node.op] if interpreter.guarded else None
        if node.op in interpreter.handlers:
            return interpreter.handlers[node.op]
        if not operations.is_traceable(node.op):
            raise CannotTrace(f"it has the operation {node.op}")
        if interpreter.library.calls(node, interpreter.is_special):
            raise CannotTrace(
                f"its operation {node.op} calls a function with a state or an effect"
            )
        return None

    def value(self, name: str) -> Value:
        """Returns the value of a tensor."""
        name = tensor_name(name)
        if name not in self._values:
            self.flush()
        return self._values[name]

    def inputs(self, node: Any) -> list[Value]:
        """Returns the values of a node's inputs."""
        return [self.value(name) for name in node.input if not name.startswith("^")]

    def flush(self) -> None:
        """Copies the pending nodes to the graph that is being traced."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        graph_def = tf.compat.v1.GraphDef()
        graph_def.versions.CopyFrom(self.interpreter.library.versions)
        own = {node.name for node in pending}
        outside: dict[str, tf.Tensor] = {}
        loaded = False
        for node in pending:
            copied = graph_def.node.add()
            copied.CopyFrom(node)
            copied.attr.pop("_class", None)
            copied.device = ""
            del copied.input[:]
            for reference in node.input:
                if reference.startswith("^"):
                    if node_name(reference) in own:
                        copied.input.append(reference)
                    continue
                copied.input.append(reference)
                if node_name(reference) not in own:
                    name = tensor_name(reference)
                    outside[name] = self.tensor(name, node)
            loaded |= bool(self.interpreter.library.called(node))
            self.interpreter.loader.rename_references(copied)
        if self._in_place:
            reuse_buffers(graph_def)
        if loaded:
            self.interpreter.loader.add_to(tf.compat.v1.get_default_graph())
        copies = tf.graph_util.import_graph_def(
            graph_def,
            input_map=outside,
            return_elements=[node.name for node in pending],
            name="computation",
        )
        for node, copy in zip(pending, copies):
            for index, output in enumerate(copy.outputs):
                self._values[f"{node.name}:{index}"] = output
            if self.interpreter.guarded and data_sizes.is_concerned(node):
                data_sizes.check(copy, at_once=self.interpreter.at_once)
            if self.interpreter.guarded and guards.is_guarded(node):
                violation = guards.violation(copy)
                if violation is not None:
                    self.state.violated = self.state.violated | violation

    def tensor(self, name: str, user: Any) -> tf.Tensor:
        """Returns the value of a tensor that the node `user` takes.

        Raises:
          CannotTrace: the value is a handle, not a tensor.
        """
        value = self.value(name)
        if isinstance(value, Variable):
            raise CannotTrace(f"its operation {user.op} takes a variable")
        if isinstance(value, ClientSequence):
            raise CannotTrace(
                f"its operation {user.op} takes a client's dataset, of which only "
                "reductions are known"
            )
        if value.graph is not tf.compat.v1.get_default_graph():
            # Inside of a loop or branch, nodes take only tensors of the same graph.
            value = self._values[tensor_name(name)] = tf.identity(value)
        return value
