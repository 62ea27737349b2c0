"""The programs of one process, shared with processes of equal structure."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Optional

import tensorflow as tf

from tfl_research import _tff_compat
from tfl_research.runtime.compiler import trials
from tfl_research.runtime.compiler.families import Family, Program, Programs
from tfl_research.runtime.tracing.graph import Graph
from tfl_research.runtime.tracing.one_thread import on_one_thread

_SCALAR = tf.TensorSpec([], tf.float32)
# Engines in several threads can share the programs of a family.
_tracing = threading.RLock()


class SharedPrograms:
    """Builds programs, or takes the programs of an earlier process of equal structure.

    A process' results are the same, to the last bit, as if there were no other process.
    Compilers compute with constants: they turn a division into a product, and join two
    products. So some constants are always arguments: noise multipliers, and clients'
    learning rates under XLA. For other constants, TensorFlow's executor gets a program
    for each process. XLA takes a second to compile a program. So under XLA, constants
    that differ from those of an earlier process become arguments, after a trial has
    shown that this changes no bit.

    Args:
      family: the family of the process.
      graphs: the graphs of which programs consist.
      constants: scalar constants of all graphs, in order.
    """

    def __init__(
        self, family: Family, graphs: Sequence[Graph], constants: Sequence[float]
    ):
        self._family, self._graphs, self._constants = family, graphs, constants
        self._own: dict[Hashable, Callable[..., list[tf.Tensor]]] = {}
        # While a program is traced: its graphs, and the lifted constants of each graph.
        self._traced: set[Graph] = set()
        self._tensors: dict[Graph, dict[int, tf.Tensor]] = {}

    def lifted_in(self, graph: Graph) -> Optional[Mapping[int, tf.Tensor]]:
        """Returns the arguments that replace a graph's constants while it is traced."""
        self._traced.add(graph)
        return self._tensors.get(graph)

    def program(
        self,
        key: Hashable,
        trace: Any,
        signature: Sequence[Any],
        compiled: bool,
        whole: Sequence[Graph] = (),
    ) -> Callable[..., list[tf.Tensor]]:
        """A program, as a function of structures of tensors.

        Args:
          key: name and mode of the program.
          trace: adds the program to a graph.
          signature: specs of the program's arguments.
          compiled: whether XLA compiles the program.
          whole: graphs of the program whose constants `constants.ARGUMENT` are always
            arguments, in a sweep or not. The program has these graphs completely.
        """
        with _tracing:
            if key not in self._own:
                self._own[key] = self._found(
                    key, trace, signature, compiled, self._always(whole)
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
        always = self._always(whole)

        def program(constants: Sequence[tf.Tensor], *values: Any) -> Any:
            with self._lifting(dict(zip(always, constants))):
                return trace(*values)

        return program, [self._constants[index] for index in always]

    def _always(self, whole: Sequence[Graph]) -> tuple[int, ...]:
        """Returns the indices of constants that are always arguments of a program."""
        found, first = list[int](), 0
        for graph in self._graphs:
            if graph in whole:
                found += [first + index for index in graph.arguments]
            first += len(graph.constants)
        return tuple(found)

    def _found(
        self,
        key: Hashable,
        trace: Any,
        signature: Sequence[Any],
        compiled: bool,
        always: tuple[int, ...],
    ) -> Callable[..., list[tf.Tensor]]:
        # A process of the same structure may name other constants `ARGUMENT`.
        key = (key, always) if always else key
        known = self._family.get(key)
        if known is None:
            self._traced = set()
            first = self._built(trace, signature, compiled, always, range(len(always)))
            used = self._constants_of(self._traced)
            first.constants = tuple(self._constants[index] for index in used)
            first.lifted = tuple(map(used.index, always))
            self._family.put(key, Programs(used, first))
            return trials.calling(first, first.constants)
        own = known.own(self._constants)

        def whole() -> Program:
            found = known.whole(own)
            if found is None:
                places = map(known.used.index, always)
                found = self._built(
                    trace, signature, compiled, known.used, tuple(places)
                )
                known.add(found)
            return found

        if known.whole(own) is not None or not compiled or known.disagree:
            return trials.calling(whole(), own)
        powers = any("Pow" in graph.op_types for graph in self._graphs)
        trial = known.to_try(own, powers=powers)
        if trial is None:
            return trials.calling(whole(), own)
        reference, places = trial
        lifted = known.lifted(own)
        if lifted is None:
            lifted = self._built(trace, signature, compiled, known.used, places)
            known.add(lifted)
        if lifted.agrees:
            return trials.calling(lifted, own)
        return self._trying(lifted, reference, own, whole)

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

    def _constants_of(self, graphs: set[Graph]) -> list[int]:
        found: list[int] = []
        first = 0
        for graph in self._graphs:
            if graph in graphs:
                found += range(first, first + len(graph.constants))
            first += len(graph.constants)
        return found

    def _built(
        self,
        trace: Any,
        signature: Sequence[Any],
        compiled: bool,
        used: Sequence[int],
        lifted: Sequence[int],
    ) -> Program:
        """Traces a program.

        Args:
          trace, signature, compiled: see `program`.
          used: indices of the constants that the program uses.
          lifted: the indices among `used` of constants that are arguments.
        """
        places = [used[index] for index in lifted]

        def program(constants: Any, *arguments: Any) -> Any:
            with self._lifting(dict(zip(places, constants))):
                return trace(*arguments)

        whole: Any = program
        if compiled:
            whole = on_one_thread(
                tf.function(program, jit_compile=True, autograph=False)
            )
        traced = tf.function(
            whole,
            input_signature=([_SCALAR] * len(places), *signature),
            autograph=False,
        ).get_concrete_function()
        constants = tuple(self._constants[index] for index in used)
        return Program(constants, tuple(lifted), _tff_compat.flat_call(traced), traced)

    @contextlib.contextmanager
    def _lifting(self, given: Mapping[int, tf.Tensor]) -> Iterator[None]:
        """Traces graphs with these tensors in place of constants, by index."""
        first = 0
        for graph in self._graphs:
            own = range(first, first + len(graph.constants))
            self._tensors[graph] = {i - first: given[i] for i in own if i in given}
            first += len(graph.constants)
        try:
            yield
        finally:
            self._tensors = {}
