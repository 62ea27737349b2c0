"""Programs for chunks of clients, compiled from a process' map-reduce form."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Sequence
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import interrupts
from tfl_research.runtime.compiler.chunk_program import ChunkProgram
from tfl_research.runtime.compiler.families import family
from tfl_research.runtime.compiler.mode import Mode
from tfl_research.runtime.compiler.shared_programs import SharedPrograms
from tfl_research.runtime.compiler.xla import said_by
from tfl_research.runtime.conversion.process_forms import map_reduce_form
from tfl_research.runtime.graphs import process_shape
from tfl_research.runtime.graphs.sequences import ClientLayout
from tfl_research.runtime.graphs.structures import leaf_types, member_names
from tfl_research.runtime.tracing.graph import Graph
from tfl_research.runtime.tracing.imports import PLAIN, Use
from tfl_research.runtime.tracing.interpreter import CannotTrace

_COUNT = tf.TensorSpec([], tf.int32)
# The programs that XLA compiles.
_OF_CLIENTS = ("chunk", "client")


def _specs(value_type: tff.Type) -> list[Any]:
    """Specs of the tensors in a type without datasets."""
    return [tf.TensorSpec(leaf.shape, leaf.dtype) for leaf in leaf_types(value_type)]


# Members of a client's value in the toolkit's own processes
# (`Cohort.stacked`).
COHORT_MEMBERS = ("x", "y", "mask", "num_steps", "num_examples", "seed")


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
        self.client_type = process_shape.client_type(process)
        self.layout = ClientLayout(self.client_type)
        # Datasets are several tensors each, and all of them are arguments of a program.
        optional = 0 if self.layout.has_sequences else len(self.layout.types)
        self.work = Graph(form.work, optional=optional)
        self.zero = Graph(form.zero)
        self.accumulate = Graph(form.accumulate)
        self.merge = Graph(form.merge)
        self.report = Graph(form.report)
        self.update = Graph(form.update)
        self.moduli = Graph(form.secure_modular_sum_modulus)
        self.bitwidths = Graph(form.secure_sum_bitwidth)
        self.largest = Graph(form.secure_sum_max_input)
        update, *secure = form.work.result_type
        self.num_update_leaves = len(leaf_types(update))
        self.num_modular_leaves = len(leaf_types(secure[2]))
        self.secure_types = [leaf for part in secure for leaf in leaf_types(part)]
        self._state = _specs(process.next.type_signature.parameter[0])
        self.context_specs = _specs(form.prepare.result_type)
        names = member_names(self.client_type)
        # Position of a client's number of steps. More steps do not change the result,
        # so vectorised clients can share one number of steps and one loop.
        self.step_bound = (
            names.index("num_steps") if set(names) >= set(COHORT_MEMBERS) else None
        )
        secure_specs = [tf.TensorSpec(t.shape, t.dtype) for t in self.secure_types]
        self.accumulator_specs = _specs(form.zero.result_type) + secure_specs
        self.report_specs = _specs(update) + secure_specs
        # A graph does not know the shapes of a dataset's elements.
        layout = str(self.layout.specs) if self.layout.has_sequences else ""
        # A graph lacks arguments that it does not use, so arguments count separately.
        arguments = tuple(
            ""
            if graph.parameter_type is None
            else str(leaf_types(graph.parameter_type))
            for graph in self.graphs
        )
        fingerprints = tuple(graph.fingerprint for graph in self.graphs)
        structure = (*fingerprints, *arguments, layout)
        shared = family(structure, self.work.loops, self.accumulate.fingerprint)
        self.sharing = SharedPrograms()
        # Processes of equal structure share these, see `Family`.
        self.shapes, self.measured = shared.shapes, shared.measured
        self.measured_alike = shared.alike

    def trace(
        self,
        graph: Graph,
        *arguments: Any,
        use: Use = PLAIN,
        violations: Optional[list[tf.Tensor]] = None,
    ) -> list[tf.Tensor]:
        """Adds a graph of the process to the program that is being traced.

        See `Graph.trace`; constants that the program has as arguments are replaced.
        """
        lifted = self.sharing.lifted_in(graph)
        return graph.trace(*arguments, lifted=lifted, use=use, violations=violations)

    def reported(
        self,
        client: Sequence[tf.Tensor],
        context: Sequence[tf.Tensor],
        use: Use,
        violations: list[tf.Tensor],
    ) -> list[tf.Tensor]:
        """Adds the work of one client to the program that is being traced.

        A value above the bound of its secure sum is an error, as in TFF's runtime.

        Args:
          client, context: the client's leaves, and those from the server.
          use, violations: see `Graph.trace`.

        Returns:
          The leaves that the client reports, secure sums last.
        """
        reported = list(
            self.trace(self.work, *client, *context, use=use, violations=violations)
        )
        first = self.num_update_leaves
        bounded = reported[first : len(reported) - self.num_modular_leaves]
        if not bounded:
            return reported
        bounds = [2 ** tf.cast(b, tf.int64) - 1 for b in self.trace(self.bitwidths)]
        bounds += [tf.cast(b, tf.int64) for b in self.trace(self.largest)]
        for place, (value, bound) in enumerate(zip(bounded, bounds)):
            above = tf.reduce_any(tf.cast(value, tf.int64) > bound)
            if use.guarded:
                violations.append(above)
                continue
            check = tf.debugging.Assert(
                tf.logical_not(above),
                ["a client's value is above the bound of its secure sum"],
            )
            with tf.control_dependencies([check]):
                reported[first + place] = tf.identity(value)
        return reported

    @property
    def parts(self) -> dict[str, Graph]:
        """All graphs, by name."""
        return {
            "initialize": self.initialize,
            "prepare": self.prepare,
            "work": self.work,
            "zero": self.zero,
            "accumulate": self.accumulate,
            "merge": self.merge,
            "report": self.report,
            "update": self.update,
            "moduli": self.moduli,
            "bitwidths": self.bitwidths,
            "largest": self.largest,
        }

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """All graphs that a round executes."""
        return tuple(self.parts.values())[1:]

    @property
    def untraceable(self) -> list[str]:
        """Words for why the toolkit's programs cannot execute the process."""
        return [
            f"{name} has the operation {operation}"
            for name, graph in self.parts.items()
            for operation in graph.untraceable
        ]

    @property
    def not_for_xla(self) -> list[str]:
        """Words for why XLA must not compile the chunks."""
        loops = self.layout.has_sequences
        parts = {"work": self.work}
        if not loops:
            parts.update(zero=self.zero, accumulate=self.accumulate)
        reasons = [
            f"{name} has the operation {operation}, which XLA is not known to execute "
            "as TensorFlow does"
            for name, graph in parts.items()
            for operation in graph.not_for_xla(loops=loops)
        ]
        if any(spec.dtype == tf.string for spec in self.layout.specs):
            reasons.append("XLA does not know strings")
        return reasons

    @property
    def vectorises(self) -> bool:
        """Whether clients can be executed at once: all parts are pure functions."""
        return not self.layout.has_sequences and all(g.pure for g in self.graphs)

    def zero_secure_sums(self) -> list[tf.Tensor]:
        """Zeros of the secure sums' types."""
        return [
            tf.zeros(leaf.shape, tf.as_dtype(leaf.dtype)) for leaf in self.secure_types
        ]

    def chunk(self, mode: Mode) -> Any:
        """The program of a chunk of clients.

        (context leaves, client leaves `[clients, ...]`, count int32) -> accumulator
        leaves, secure sums last. Only the first `count` clients count. A program for
        XLA has one more result: whether a guard was violated, so that the other results
        are worthless.
        """
        read = self._read_leaves()
        specs = [self.layout.specs[place] for place in read]
        program = self.compiled(
            "chunk",
            mode,
            ChunkProgram(self, mode, read).trace,
            self.context_specs,
            specs,
            _COUNT,
            graphs=[*self.of_client, self.zero, self.accumulate],
            further=read.index(self.step_bound) if self.step_bound in read else None,
        )
        if len(read) == len(self.layout.specs):
            return program
        return lambda context, leaves, count: program(
            context, [leaves[place] for place in read], count
        )

    def _read_leaves(self) -> list[int]:
        """Returns the positions of the client leaves that a chunk's program takes.

        A leaf that no client's work reads, as the roles under an attack on data, is no
        argument. So the program is the same with and without this leaf.
        """
        everything = list(range(len(self.layout.specs)))
        if self.layout.has_sequences:
            return everything
        read = [place for place in self.work.read if place < len(everything)]
        # A program has leaves by which it knows the number of clients.
        return read if set(read) - {self.step_bound} else everything

    @property
    def of_client(self) -> list[Graph]:
        """The graphs that `reported` traces."""
        return [self.work, self.bitwidths, self.largest]

    def build(self, mode: Mode, parts: int = 1) -> None:
        """Builds the programs of a round.

        Args:
          mode: how clients are executed.
          parts: see `finish`.

        Raises:
          CannotTrace: TensorFlow cannot build them.
        """
        try:
            self.start(mode)
            if mode.clients != "separate":
                # The other mode has programs of single clients
                # (`runtime.rounds.separate`).
                self.chunk(mode)
            self.finish(mode, parts)
        except CannotTrace:
            raise
        # If TensorFlow cannot build a program, it may raise any exception.
        except Exception as error:
            interrupts.check()
            reason = said_by(error)
            raise CannotTrace(f"{type(error).__name__}: {reason}") from error

    def start(self, mode: Mode) -> Any:
        """The program (state leaves) -> context leaves for the clients."""
        aliases = self.prepare.aliases
        if aliases is not None:
            return lambda state: [state[index] for index in aliases]
        return self.compiled(
            "start",
            mode,
            lambda state: list(self.trace(self.prepare, *state)),
            self._state,
            graphs=[self.prepare],
        )

    def _combined(self, first: Any, second: Any) -> list[tf.Tensor]:
        split = len(first) - len(self.secure_types)
        merged = self.trace(self.merge, *first[:split], *second[:split])
        secure = zip(first[split:], second[split:])
        return list(merged) + [a + b for a, b in secure]

    def combine(self, mode: Mode) -> Any:
        """The program (accumulator, accumulator) -> accumulator of all clients."""
        accumulator = self.accumulator_specs
        return self.compiled(
            "combine",
            mode,
            self._combined,
            accumulator,
            accumulator,
            graphs=[self.merge],
        )

    def finish(self, mode: Mode, parts: int) -> Any:
        """The program (state leaves, accumulators) -> new state and metrics leaves."""

        def finish(state: Any, accumulators: Any) -> Any:
            total = accumulators[0]
            for part in accumulators[1:]:
                total = self._combined(total, part)
            split = len(total) - len(self.secure_types)
            reported = self.trace(self.report, *total[:split])
            return self.trace(
                self.update, *state, *reported, *self.reduce_secure(total[split:])
            )

        accumulators = [self.accumulator_specs] * parts
        graphs = [self.report, self.update, self.moduli]
        return self.compiled(
            f"finish {parts}",
            mode,
            finish,
            self._state,
            accumulators,
            graphs=[self.merge, *graphs] if parts > 1 else graphs,
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
        moduli = self.trace(self.moduli)
        return plain + [
            tf.math.floormod(total, tf.cast(modulus, total.dtype))
            for total, modulus in zip(modular, moduli)
        ]

    def by_xla(self, mode: Mode) -> bool:
        """Whether XLA compiles the program of a chunk as a whole."""
        return mode.compiler == "xla" and not self.layout.has_sequences

    def compiled(
        self,
        name: str,
        mode: Mode,
        program: Any,
        *signature: Any,
        graphs: Sequence[Graph],
        further: Hashable = None,
    ) -> Any:
        """A program, which processes with equal graphs share.

        Args:
          name: of the program.
          mode: of the engine.
          program: adds the program to the graph that is being traced.
          *signature: specs of the program's arguments.
          graphs: all graphs that the program traces.
          further: what else the program depends on.
        """
        # One trace serves all shapes; XLA compiles it once for each shape. The server's
        # programs are small, and compiling them would take more time than it saves.
        is_compiled = name in _OF_CLIENTS and self.by_xla(mode)
        whole: list[Graph] = []
        if name.startswith("finish"):
            whole = [self.report, self.update]
        elif is_compiled:
            whole = [self.work]
        # How a program divides its arguments and results.
        split = self.num_update_leaves, self.num_modular_leaves, str(self.secure_types)
        key = name, mode, split, further
        return self.sharing.program(key, program, signature, is_compiled, graphs, whole)
