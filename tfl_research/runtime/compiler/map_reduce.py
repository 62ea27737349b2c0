"""Programs for chunks of clients, compiled from a process' map-reduce form."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import _tff_compat
from tfl_research.runtime.compiler.chunks import Chunk
from tfl_research.runtime.compiler.conversion import map_reduce_form
from tfl_research.runtime.compiler.families import family
from tfl_research.runtime.compiler.graphs import Graph
from tfl_research.runtime.compiler.mode import Mode
from tfl_research.runtime.compiler.structures import leaf_types

_tracing = threading.RLock()
_COUNT = tf.TensorSpec([], tf.int32)
_SCALAR = tf.TensorSpec([], tf.float32)


def _specs(value_type: tff.Type) -> list[Any]:
    """Specs of the tensors in a type; a dataset is a variant."""
    return [
        tf.TensorSpec(leaf.shape, leaf.dtype)
        if isinstance(leaf, tff.TensorType)
        else tf.TensorSpec([], tf.variant)
        for leaf in leaf_types(value_type)
    ]


# Members of a client's value in the toolkit's own processes
# (`Cohort.stacked`).
COHORT_MEMBERS = ("x", "y", "mask", "num_steps", "num_examples", "seed")


def _member_names(client_type: tff.Type) -> tuple[Any, ...]:
    if not isinstance(client_type, tff.StructType):
        return ()
    return tuple(name for name, _ in tff.structure.iter_elements(client_type))


def chunk_tensors(chunk: Chunk) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Converts a chunk to the last two arguments of a chunk program."""
    leaves = [tf.convert_to_tensor(leaf) for leaf in chunk.leaves]
    return leaves, tf.constant(chunk.count, tf.int32)


class MapReduce:
    """The graphs of one process, and the programs built from them.

    A round has these parts (`tff.backends.mapreduce.MapReduceForm`): prepare at the
    server; work and accumulate for every client; merge over chunks; report and update
    at the server. Secure sums are computed as plain sums of integers. Modular secure
    sums are computed modulo their modulus.
    """

    def __init__(self, process: tff.templates.IterativeProcess):
        initialize, form = map_reduce_form(process)
        self.initialize = Graph(initialize)
        self.prepare = Graph(form.prepare)
        self.work = Graph(form.work)
        self.zero = Graph(form.zero)
        self.accumulate = Graph(form.accumulate)
        self.merge = Graph(form.merge)
        self.report = Graph(form.report)
        self.update = Graph(form.update)
        self.moduli = Graph(form.secure_modular_sum_modulus)
        self.client_type = process.next.type_signature.parameter[1].member
        update, *secure = form.work.type_signature.result
        self.num_update_leaves = len(leaf_types(update))
        self.num_modular_leaves = len(leaf_types(secure[2]))
        self._secure_types = [leaf for part in secure for leaf in leaf_types(part)]
        self._state = _specs(process.next.type_signature.parameter[0])
        self._context = _specs(form.prepare.type_signature.result)
        self._stacked = [
            tf.TensorSpec(tf.TensorShape([None]).concatenate(spec.shape), spec.dtype)
            for spec in _specs(self.client_type)
        ]
        names = _member_names(self.client_type)
        # Position of a client's number of steps. More steps do not change the result,
        # so vectorised clients can share one number of steps and one loop.
        self._step_bound = (
            names.index("num_steps") if set(names) >= set(COHORT_MEMBERS) else None
        )
        self._accumulator = _specs(form.zero.type_signature.result) + [
            tf.TensorSpec(leaf.shape, leaf.dtype) for leaf in self._secure_types
        ]
        constants = tuple(value for graph in self.graphs for value in graph.constants)
        shared = family(tuple(graph.fingerprint for graph in self.graphs), constants)
        self._programs = shared.programs
        self._lifted = shared.lifted
        self._lifted_values = [tf.constant(constants[i]) for i in shared.lifted]
        # The lifted constants of each graph, while a program is traced.
        self._lifted_tensors: dict[Graph, dict[int, tf.Tensor]] = {}

    def _trace(
        self, graph: Graph, *arguments: Any, in_place: bool = False
    ) -> list[tf.Tensor]:
        lifted = self._lifted_tensors.get(graph)
        return graph.trace(*arguments, lifted=lifted, in_place=in_place)

    @contextlib.contextmanager
    def _lifting(self, tensors: Sequence[tf.Tensor]) -> Iterator[None]:
        """Traces graphs with these tensors in place of the lifted constants."""
        given = dict(zip(self._lifted, tensors))
        first = 0
        for graph in self.graphs:
            own = range(first, first + len(graph.constants))
            self._lifted_tensors[graph] = {
                i - first: given[i] for i in own if i in given
            }
            first += len(graph.constants)
        try:
            yield
        finally:
            self._lifted_tensors = {}

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """All graphs that a round executes."""
        return (
            self.prepare,
            self.work,
            self.zero,
            self.accumulate,
            self.merge,
            self.report,
            self.update,
            self.moduli,
        )

    @property
    def pure(self) -> bool:
        """Whether every part is a pure function of tensors (no datasets)."""
        tensors = all(
            isinstance(leaf, tff.TensorType) for leaf in leaf_types(self.client_type)
        )
        return tensors and all(graph.pure for graph in self.graphs)

    def zero_secure_sums(self) -> list[tf.Tensor]:
        """Zeros of the secure sums' types."""
        return [
            tf.zeros(leaf.shape, tf.as_dtype(leaf.dtype)) for leaf in self._secure_types
        ]

    def _folded(self, report: Any, count: tf.Tensor, mode: Mode) -> list[tf.Tensor]:
        """Accumulates the results of `report(index)` for the first `count` clients."""
        num_updates = self.num_update_leaves

        def body(index: tf.Tensor, accumulator: Any) -> Any:
            reported = report(index)
            split = len(accumulator) - len(self._secure_types)
            folded = self._trace(
                self.accumulate,
                *accumulator[:split],
                *reported[:num_updates],
                in_place=mode.compiler == "graph",
            )
            secure = zip(accumulator[split:], reported[num_updates:])
            return index + 1, list(folded) + [total + value for total, value in secure]

        start = list(self._trace(self.zero)) + self.zero_secure_sums()
        return tf.while_loop(
            lambda index, _: index < count,
            body,
            (tf.constant(0), start),
            parallel_iterations=1,
        )[1]

    def chunk(self, mode: Mode) -> Any:
        """The program of a chunk of clients.

        (context leaves, client leaves `[clients, ...]`, count int32) -> accumulator
        leaves, secure sums last. Only the first `count` clients count.
        """

        def folded(context: Any, leaves: Any, count: tf.Tensor) -> Any:
            def report(index: tf.Tensor) -> Any:
                return self._trace(
                    self.work, *(leaf[index] for leaf in leaves), *context
                )

            return self._folded(report, count, mode)

        def vectorised(context: Any, leaves: Any, count: tf.Tensor) -> Any:
            own = dict(enumerate(leaves))
            common = {}
            if self._step_bound is not None:
                common[self._step_bound] = tf.reduce_max(own.pop(self._step_bound))

            def work(client: Any) -> Any:
                values = {**client, **common}
                return self._trace(
                    self.work, *(values[i] for i in range(len(leaves))), *context
                )

            reported = tf.vectorized_map(work, own)
            return self._folded(lambda index: [v[index] for v in reported], count, mode)

        program = folded if mode.clients == "folded" else vectorised
        return self._compiled(
            "chunk", mode, program, self._context, self._stacked, _COUNT
        )

    def start(self, mode: Mode) -> Any:
        """The program (state leaves) -> context leaves for the clients."""
        aliases = self.prepare.aliases
        if aliases is not None:
            return lambda state: [state[index] for index in aliases]
        return self._compiled(
            "start",
            mode,
            lambda state: list(self._trace(self.prepare, *state)),
            self._state,
        )

    def _combined(self, first: Any, second: Any) -> list[tf.Tensor]:
        split = len(first) - len(self._secure_types)
        merged = self._trace(self.merge, *first[:split], *second[:split])
        secure = zip(first[split:], second[split:])
        return list(merged) + [a + b for a, b in secure]

    def combine(self, mode: Mode) -> Any:
        """The program (accumulator, accumulator) -> accumulator of all clients."""
        accumulator = self._accumulator
        return self._compiled("combine", mode, self._combined, accumulator, accumulator)

    def finish(self, mode: Mode, parts: int) -> Any:
        """The program (state leaves, accumulators) -> new state and metrics leaves."""

        def finish(state: Any, accumulators: Any) -> Any:
            total = accumulators[0]
            for part in accumulators[1:]:
                total = self._combined(total, part)
            split = len(total) - len(self._secure_types)
            reported = self._trace(self.report, *total[:split])
            return self._trace(
                self.update, *state, *reported, *self.reduce_secure(total[split:])
            )

        accumulators = [self._accumulator] * parts
        return self._compiled(
            f"finish {parts}", mode, finish, self._state, accumulators
        )

    @functools.cached_property
    def reduced_secure(self) -> Any:
        """`reduce_secure` as a program, which is traced once."""
        return tf.function(self.reduce_secure, autograph=False)

    def reduce_secure(self, sums: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Reduces modular sums to [0, modulus); other sums do not change."""
        plain = list(sums[: len(sums) - self.num_modular_leaves])
        modular = sums[len(plain) :]
        if not modular:
            return plain
        moduli = self._trace(self.moduli)
        return plain + [
            tf.math.floormod(total, tf.cast(modulus, total.dtype))
            for total, modulus in zip(modular, moduli)
        ]

    def _compiled(self, name: str, mode: Mode, program: Any, *signature: Any) -> Any:
        # One trace serves all shapes; XLA compiles it once for each shape. The server's
        # programs are small, and compiling them would take more time than it saves.
        key = (name, mode)
        # Engines in several threads can share the programs of a family.
        with _tracing:
            if key not in self._programs:

                def lifted(constants: Any, *arguments: Any) -> Any:
                    with self._lifting(constants):
                        return program(*arguments)

                traced = tf.function(
                    lifted,
                    input_signature=([_SCALAR] * len(self._lifted), *signature),
                    jit_compile=name == "chunk" and mode.compiler == "xla",
                    autograph=False,
                ).get_concrete_function()
                # The function must outlive its call.
                self._programs[key] = traced, _tff_compat.flat_call(traced)
        call, constants = self._programs[key][1], self._lifted_values
        return lambda *values: list(call(*constants, *tf.nest.flatten(values)))
