"""Programs for chunks of clients, compiled from a process' map-reduce form."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import interrupts
from tfl_research.runtime.compiler.chunk_program import ChunkProgram
from tfl_research.runtime.compiler.families import family
from tfl_research.runtime.compiler.mode import Mode
from tfl_research.runtime.compiler.process_graphs import ProcessGraphs
from tfl_research.runtime.compiler.xla import said_by
from tfl_research.runtime.graphs.structures import leaf_types
from tfl_research.runtime.tracing.graph import Graph
from tfl_research.runtime.tracing.interpreter import CannotTrace

_COUNT = tf.TensorSpec([], tf.int32)
# The programs that XLA compiles.
_OF_CLIENTS = ("chunk", "client")


class MapReduce(ProcessGraphs):
    """The graphs of one process, and the programs built from them."""

    def __init__(self, process: tff.templates.IterativeProcess):
        super().__init__(process)
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
        structure = (*fingerprints, *arguments, layout, str(self.read))
        shared = family(structure, self.work.loops, self.accumulate.fingerprint)
        # Processes of equal structure share these, see `Family`.
        self.shapes, self.measured = shared.shapes, shared.measured
        self.measured_alike = shared.alike

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
        # A program has leaves by which it knows the number of clients.
        if set(self.read) - {self.step_bound}:
            return self.read
        return list(range(len(self.layout.specs)))

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
        # A dataset and a tensor can be equal specs. Work can read neither.
        datasets = str(self.layout.types) if self.layout.has_sequences else ""
        key = name, mode, split, datasets, further
        return self.sharing.program(key, program, signature, is_compiled, graphs, whole)
