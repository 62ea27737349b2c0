"""The programs of one process, shared with processes of equal graphs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Optional

import tensorflow as tf

from tfl_research import _tff_compat
from tfl_research.runtime.compiler import families, trials
from tfl_research.runtime.compiler.families import Program, Programs
from tfl_research.runtime.tracing.graph import Graph
from tfl_research.runtime.tracing.one_thread import on_one_thread

_SCALAR = tf.TensorSpec([], tf.float32)
# Engines in several threads can share programs.
_tracing = threading.RLock()


class SharedPrograms:
    """Builds programs, or takes the programs of an earlier process with equal graphs.

    A process' results are the same, to the last bit, as if there were no other process.
    Compilers compute with constants: they turn a division into a product, and join two
    products. So some constants are always arguments: noise multipliers, and clients'
    learning rates under XLA. For other constants, TensorFlow's executor gets a program
    for each process. XLA takes a second to compile a program. So under XLA, constants
    that differ from those of an earlier process become arguments, after a trial has
    shown that this changes no bit.
    """

    def __init__(self) -> None:
        self._own: dict[Hashable, Callable[..., list[tf.Tensor]]] = {}
        # While a program is traced: its graphs, and the lifted constants of each graph.
        self._traced: Optional[Sequence[Graph]] = None
        self._tensors: dict[Graph, dict[int, tf.Tensor]] = {}

    def lifted_in(self, graph: Graph) -> Optional[Mapping[int, tf.Tensor]]:
        """Returns the arguments that replace a graph's constants while it is traced.

        Raises:
          ValueError: the program that is traced was asked for without this graph.
        """
        if self._traced is not None and graph not in self._traced:
            raise ValueError(
                f"a program traces a graph with results of type {graph.result_type}; "
                f"expected one of the {len(self._traced)} graphs that identify it"
            )
        return self._tensors.get(graph)

    def program(
        self,
        key: Hashable,
        trace: Any,
        signature: Sequence[Any],
        compiled: bool,
        graphs: Sequence[Graph],
        whole: Sequence[Graph] = (),
    ) -> Callable[..., list[tf.Tensor]]:
        """A program, as a function of structures of tensors.

        Args:
          key: name and mode of the program, and all else on which the program depends
            beside its graphs and its signature.
          trace: adds the program to a graph.
          signature: specs of the program's arguments.
          compiled: whether XLA compiles the program.
          graphs: all graphs of which the program consists.
          whole: the graphs among them whose constants `constants.ARGUMENT` are always
            arguments, in a sweep or not. The program has these graphs completely.
        """
        with _tracing:
            if key not in self._own:
                self._own[key] = self._found(
                    key, trace, signature, compiled, graphs, whole
                )
            return self._own[key]

    def with_arguments(
        self, trace: Callable[..., Any], whole: Sequence[Graph]
    ) -> tuple[Callable[..., Any], list[float]]:
        """Makes an unshared program with the arguments of all shared programs.

        Args:
          trace: see `program`, as `whole`.

        Returns:
          The function (constants, *values) to trace, and this process' constants.
        """
        always, own = _arguments(whole, whole), _constants(whole)

        def program(constants: Sequence[tf.Tensor], *values: Any) -> Any:
            with self._lifting(whole, dict(zip(always, constants))):
                return trace(*values)

        return program, [own[index] for index in always]

    def _found(
        self,
        key: Hashable,
        trace: Any,
        signature: Sequence[Any],
        compiled: bool,
        graphs: Sequence[Graph],
        whole: Sequence[Graph],
    ) -> Callable[..., list[tf.Tensor]]:
        own = _constants(graphs)
        # A process with equal graphs may name other constants `ARGUMENT`.
        always = _arguments(graphs, whole)
        fingerprints = tuple(graph.fingerprint for graph in graphs)
        key = (key, compiled, fingerprints, repr(signature), always)

        def built(lifted: Sequence[int]) -> Program:
            return self._built(trace, signature, compiled, graphs, lifted)

        known = families.known(key)
        if known is None:
            first = built(always)
            families.keep(key, Programs(first))
            return trials.calling(first, own)

        def complete() -> Program:
            found = known.whole(own)
            if found is None:
                found = built(always)
                known.add(found)
            return found

        if known.whole(own) is not None or not compiled or known.disagree:
            return trials.calling(complete(), own)
        powers = any("Pow" in graph.op_types for graph in graphs)
        trial = known.to_try(own, powers=powers)
        if trial is None:
            return trials.calling(complete(), own)
        reference, places = trial
        lifted = known.lifted(own)
        if lifted is None:
            lifted = built(places)
            known.add(lifted)
        if lifted.agrees:
            return trials.calling(lifted, own)
        return self._trying(lifted, reference, own, complete)

    def _trying(
        self,
        lifted: Program,
        reference: Program,
        own: Sequence[float],
        whole: Callable[[], Program],
    ) -> Callable[..., list[tf.Tensor]]:
        """Calls the lifted program if it agrees with the reference, else our own."""
        chosen: list[Callable[..., list[tf.Tensor]]] = []

        def run(*values: Any) -> list[tf.Tensor]:
            if not chosen:
                with _tracing:
                    if lifted.agrees is None:
                        lifted.agrees = trials.agree(lifted, reference, values)
                    one = trials.calling(lifted, own) if lifted.agrees else None
                    chosen.append(one or trials.calling(whole(), own))
            return chosen[0](*values)

        return run

    def _built(
        self,
        trace: Any,
        signature: Sequence[Any],
        compiled: bool,
        graphs: Sequence[Graph],
        lifted: Sequence[int],
    ) -> Program:
        """Traces a program.

        Args:
          trace, signature, compiled, graphs: see `program`.
          lifted: the indices among the graphs' constants of those that are arguments.
        """

        def program(constants: Any, *arguments: Any) -> Any:
            with self._lifting(graphs, dict(zip(lifted, constants))):
                try:
                    self._traced = graphs
                    return trace(*arguments)
                finally:
                    self._traced = None

        whole: Any = program
        if compiled:
            whole = on_one_thread(
                tf.function(program, jit_compile=True, autograph=False)
            )
        traced = tf.function(
            whole,
            input_signature=([_SCALAR] * len(lifted), *signature),
            autograph=False,
        ).get_concrete_function()
        call = _tff_compat.flat_call(traced)
        return Program(_constants(graphs), tuple(lifted), call, traced)

    @contextlib.contextmanager
    def _lifting(
        self, graphs: Sequence[Graph], given: Mapping[int, tf.Tensor]
    ) -> Iterator[None]:
        """Traces graphs with these tensors in place of constants, by index."""
        first = 0
        for graph in graphs:
            own = range(first, first + len(graph.constants))
            self._tensors[graph] = {i - first: given[i] for i in own if i in given}
            first += len(graph.constants)
        try:
            yield
        finally:
            self._tensors = {}


def _constants(graphs: Sequence[Graph]) -> tuple[float, ...]:
    """Returns the scalar constants of all graphs, in order."""
    return tuple(value for graph in graphs for value in graph.constants)


def _arguments(graphs: Sequence[Graph], whole: Sequence[Graph]) -> tuple[int, ...]:
    """Returns the indices of the constants that are always arguments of a program."""
    found, first = list[int](), 0
    for graph in graphs:
        if graph in whole:
            found += [first + index for index in graph.arguments]
        first += len(graph.constants)
    return tuple(found)
