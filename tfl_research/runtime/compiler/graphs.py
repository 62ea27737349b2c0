"""TensorFlow graphs of compiled TFF computations, callable in this process."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import _tff_compat
from tfl_research.runtime.compiler.constants import ScalarConstants
from tfl_research.runtime.compiler.fingerprint import fingerprint
from tfl_research.runtime.compiler.in_place import reuse_buffers
from tfl_research.runtime.compiler.inlining import Inlined, function_graph_def

_containers = itertools.count()

# Operations with a state outside of the graph. Clients can share a graph with such
# operations only if the state is initialised for each client.
_STATEFUL = ("VarHandleOp", "VariableV2", "HashTableV2", "MutableHashTableV2")


class Graph:
    """One TensorFlow computation of a `MapReduceForm`, as a function of flat tensors.

    Attributes:
      parameter_type: the computation's TFF parameter type, or None.
      result_type: its TFF result type.
      op_types: names of all operations in it, functions included.
      pure: whether the computation has no state; `trace` needs a pure computation.
      fingerprint: equal for computations that differ only in names and in the values
        of `constants`.
      constants: values of its scalar float constants, by position.
    """

    def __init__(self, computation: tff.Computation):
        message = tff.framework.serialize_computation(computation).tensorflow
        graph_def = tf.compat.v1.GraphDef()
        message.graph_def.Unpack(graph_def)
        self.parameter_type = computation.type_signature.parameter
        self.result_type = computation.type_signature.result
        self._inputs = list(_tensor_names(message.parameter))
        self._outputs = list(_tensor_names(message.result))
        self._initialize_op = message.initialize_op
        self.op_types = {node.op for node in _all_nodes(graph_def)}
        self.pure = not self._initialize_op and self.op_types.isdisjoint(_STATEFUL)
        self._runnable: Any = None
        self._imports: dict[tuple[tuple[int, ...], bool], _Import] = {}
        if self.pure:
            graph_def = _needed(graph_def, self._outputs)
        self._graph_def = graph_def
        self._scalars = ScalarConstants(graph_def)
        self.constants = tuple(self._scalars.values)
        self.fingerprint = fingerprint(
            graph_def, self._inputs, self._outputs, self._scalars.functions
        )

    def _imported(self, lifted: tuple[int, ...], in_place: bool = False) -> _Import:
        """The graph to add to another graph, with some constants as arguments."""
        key = lifted, in_place
        if key not in self._imports:
            graph_def = self._graph_def
            names: list[str] = []
            if lifted:
                positions = [self._scalars.positions[i] for i in lifted]
                graph_def, names = self._scalars.lifted(positions)
            imported = _Import(graph_def, [*self._inputs, *names], self._outputs)
            if in_place:
                reuse_buffers(imported.graph_def)
            self._imports[key] = imported
        return self._imports[key]

    @property
    def aliases(self) -> Optional[list[int]]:
        """For each result, the argument that it is; None if a result is computed."""
        if not self.pure:
            return None
        imported = self._imported(())
        forwards = {
            node.name: node.input[0]
            for node in imported.graph_def.node
            if node.op == "Identity" and len(node.input) == 1
        }
        aliases = []
        for name in imported.outputs:
            while name.partition(":")[0] in forwards:
                name = forwards[name.partition(":")[0]]
            name = name if ":" in name else f"{name}:0"
            if name not in self._inputs:
                return None
            aliases.append(self._inputs.index(name))
        return aliases

    def trace(
        self,
        *arguments: Any,
        lifted: Optional[Mapping[int, tf.Tensor]] = None,
        in_place: bool = False,
    ) -> list[tf.Tensor]:
        """Adds the computation to the graph that is being traced.

        Args:
          *arguments: tensors, in the order of the parameter type's leaves.
          lifted: float32 scalars that replace some of `constants`, by index.
          in_place: whether additions to arguments may reuse their buffers, see
            `runtime.in_place`; not for XLA.

        Returns:
          Tensors in the order of the result type's leaves.
        """
        lifted = lifted or {}
        imported = self._imported(tuple(lifted), in_place)
        return imported.trace([*arguments, *lifted.values()])

    def run(self, *arguments: Any) -> list[tf.Tensor]:
        """Initialises the state of the computation and executes it once."""
        if self._runnable is None:
            self._runnable = self._prepare_to_run()
        initialize, compute = self._runnable
        if initialize is not None:
            initialize()
        return list(compute(*arguments))

    def _prepare_to_run(self) -> tuple[Any, Any]:
        graph_def = self._graph_def
        if not self.pure:
            # A process shares resources by name. A separate container separates
            # computations with equal names.
            container = f"tfl_research_{next(_containers)}"
            for node in _all_nodes(graph_def):
                if "container" in node.attr:
                    node.attr["container"].s = container.encode()
        if self.pure:
            return None, tf.function(self.trace, reduce_retracing=True)
        inputs, outputs = self._inputs, self._outputs
        wrapped = tf.compat.v1.wrap_function(
            lambda: tf.graph_util.import_graph_def(graph_def, name=""), []
        )
        element = wrapped.graph.as_graph_element
        compute = wrapped.prune(
            [element(n) for n in inputs], [element(n) for n in outputs]
        )
        initialize = None
        if self._initialize_op:
            initialize = wrapped.prune([], element(self._initialize_op))
        return initialize, compute


class _Import:
    """A pure graph without function calls, to be added to other graphs.

    Attributes:
      graph_def: without its arguments, which are mapped when it is added (a compiler
        rejects placeholders that stay behind).
      outputs: tensor names of its results.
    """

    def __init__(self, graph_def: Any, inputs: Sequence[str], outputs: Sequence[str]):
        inlined = Inlined(
            graph_def, {f.signature.name: f for f in graph_def.library.function}
        )
        self.graph_def = inlined.graph_def
        self.outputs = [inlined.tensor(name) for name in outputs]
        self._inputs = list(inputs)
        loader = _Loader(graph_def.library)
        for node in self.graph_def.node:
            loader.rename_references(node)
        self._functions = loader.loaded
        given = {name.partition(":")[0] for name in inputs}
        kept = [node for node in self.graph_def.node if node.name not in given]
        del self.graph_def.node[:]
        self.graph_def.node.extend(kept)

    def trace(self, arguments: Sequence[Any]) -> list[tf.Tensor]:
        """Adds it to the graph that is being traced; see `Graph.trace`."""
        graph = tf.compat.v1.get_default_graph()
        for function in self._functions:
            function.add_to_graph(graph)
        given = {
            name: tf.identity(value) for name, value in zip(self._inputs, arguments)
        }
        used = set(self.outputs)
        for node in self.graph_def.node:
            used.update(i if ":" in i else f"{i}:0" for i in node.input)
        return tf.graph_util.import_graph_def(
            self.graph_def,
            input_map={name: given[name] for name in given if name in used},
            return_elements=self.outputs,
            name="computation",
        )


def _tensor_names(binding: Any) -> Iterator[str]:
    kind = binding.WhichOneof("binding")
    if kind == "tensor":
        yield binding.tensor.tensor_name
    elif kind == "sequence":
        yield binding.sequence.variant_tensor_name
    elif kind == "struct":
        for element in binding.struct.element:
            yield from _tensor_names(element)


def _all_nodes(graph_def: tf.compat.v1.GraphDef) -> Iterator[Any]:
    yield from graph_def.node
    for function in graph_def.library.function:
        yield from function.node_def


def operation_types(message: Any) -> set[str]:
    """The names of all operations in a serialised TensorFlow computation.

    Args:
      message: a `TensorFlow` of TFF's protocol.
    """
    graph_def = tf.compat.v1.GraphDef()
    message.graph_def.Unpack(graph_def)
    return {node.op for node in _all_nodes(graph_def)}


def _needed(graph_def: tf.compat.v1.GraphDef, outputs: Sequence[str]) -> Any:
    """The nodes that the outputs need, with the function library."""
    wanted = sorted({name.partition(":")[0] for name in outputs})
    kept = tf.compat.v1.graph_util.extract_sub_graph(graph_def, wanted)
    return tf.compat.v1.GraphDef(
        node=kept.node, versions=graph_def.versions, library=graph_def.library
    )


class _Loader:
    """Rebuilds the functions of loops and branches, with inlined calls.

    Vectorisation converts the graphs of these functions. A library that is imported
    with a graph has only the serialised functions.
    """

    def __init__(self, library: Any):
        self._definitions = {f.signature.name: f for f in library.function}
        self._by_name: dict[str, Any] = {}

    @property
    def loaded(self) -> list[Any]:
        """All functions loaded so far, callees before callers."""
        return list(self._by_name.values())

    def rename_references(self, node: Any) -> list[Any]:
        """Loads the functions that a node refers to, and updates the references."""
        called = []
        for reference in _tff_compat.function_references(node):
            function = self._load(reference.name)
            reference.name = _tff_compat.function_name(function)
            called.append(function)
        return called

    def _load(self, name: str) -> Any:
        if name not in self._by_name:
            definition = self._definitions[name]
            body, flat_names = function_graph_def(definition)
            inlined = Inlined(body, self._definitions)
            called = [
                function
                for node in inlined.graph_def.node
                for function in self.rename_references(node)
            ]
            results = [
                inlined.tensor(flat_names[definition.ret[argument.name]])
                for argument in definition.signature.output_arg
            ]
            arguments = [f"{a.name}:0" for a in definition.signature.input_arg]
            self._by_name[name] = _tff_compat.concrete_function(
                name, inlined.graph_def, arguments, results, called
            )
        return self._by_name[name]
