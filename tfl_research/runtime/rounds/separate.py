"""Executes each client by a program of its own, and adds up the reports in order."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import interrupts
from tfl_research.data import Cohort
from tfl_research.runtime.compiler import choice, chunks
from tfl_research.runtime.compiler.chunks import Chunk
from tfl_research.runtime.compiler.map_reduce import MapReduce
from tfl_research.runtime.compiler.mode import Mode
from tfl_research.runtime.compiler.xla import CannotCompile, executed, set_flags
from tfl_research.runtime.conversion.process_forms import UnsupportedProcess
from tfl_research.runtime.explanation import examine
from tfl_research.runtime.graphs import process_shape
from tfl_research.runtime.graphs.structures import (
    leaf_types,
    member_names,
    pack,
    tensors,
)
from tfl_research.runtime.rounds import accumulators, failures
from tfl_research.runtime.tracing.imports import Use

_LOG = logging.getLogger(__name__)


class SeparateClients:
    """A process' round in steps: context, one report for each client, total, result.

    The site of a federation executes `report` with its own data, and the coordinator
    the other steps. `in_process` with `Mode("separate", ...)` executes the same
    programs. So both give the same result to the last bit, on processors of one type.

    Args:
      programs: the programs of the process; no engine may use the same object.
      compiler: "xla" or "graph".

    Raises:
      UnsupportedProcess: the compiler cannot execute the clients as TFF does.
    """

    def __init__(self, programs: MapReduce, compiler: str):
        set_flags()
        self._programs = programs
        self._mode = Mode("separate", compiler)
        self._has_warned = self._is_refused = False
        reasons = choice.refusals(programs, self._mode)
        if reasons:
            raise UnsupportedProcess(
                f"mode {self._mode} cannot execute this process: {reasons[0]}; use "
                "the compiler 'graph'"
            )

    @property
    def num_plain_leaves(self) -> int:
        """Number of tensors of a report that are not part of a secure sum."""
        return self._programs.num_update_leaves

    def chunk(self, cohort: Cohort, index: int) -> Chunk:
        """Returns a chunk with the local steps of one client of a cohort."""
        names = member_names(self._programs.client_type)
        steps = chunks.bucket(max(1, len(cohort.orders[index])))
        return chunks.gather(cohort, [index], (1, steps), names)

    def context(self, state: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Computes the tensors that the server sends to every client.

        Args:
          state: the leaves of the server's state.

        Raises:
          UserError: the server's computation fails.
        """
        with failures.at_server():
            return list(self._programs.start(self._mode)(state))

    def report(self, context: Sequence[tf.Tensor], chunk: Chunk) -> list[tf.Tensor]:
        """Computes the report of one client: tensors as `report_specs` describes.

        Args:
          context: the result of `context`.
          chunk: a chunk with one client.

        Raises:
          UserError: the client's computation fails.
        """
        leaves = [tf.convert_to_tensor(leaf[0]) for leaf in chunk.leaves]
        try:
            if not self._by_xla():
                return self._client("graph")(context, leaves)
            return executed(
                lambda: self._client("xla")(context, leaves),
                lambda: self._client("graph")(context, leaves),
                self._not_compiled,
            )
        except tf.errors.InvalidArgumentError as error:
            raise failures.named(self._programs, context, chunk, error) from error

    def _by_xla(self) -> bool:
        """Whether there is a program for XLA; warns if XLA would compute it wrongly."""
        if self._mode.compiler == "graph" or self._is_refused:
            return False
        try:
            self._client("xla")
        except NotImplementedError as error:
            interrupts.check()
            self._is_refused = True
            self._not_compiled(CannotCompile(str(error)))
            return False
        return True

    def _not_compiled(self, error: CannotCompile) -> None:
        """Warns once, before the client's results in TensorFlow's executor are used."""
        if not self._has_warned:
            self._has_warned = True
            _LOG.warning("%s; TensorFlow's executor executes such clients", error)

    def total(self, reports: Iterable[Sequence[tf.Tensor]]) -> list[tf.Tensor]:
        """Adds up reports in order; without reports, returns the initial total."""
        total = accumulators.zero(self._programs)
        for report in reports:
            total = self._fold(total, report)
        return total

    def result(
        self, state: Sequence[tf.Tensor], total: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
        """Computes the leaves of the new state and of the metrics.

        Raises:
          UserError: the server's computation fails.
        """
        with failures.at_server():
            return self._programs.finish(self._mode, 1)(state, [total])

    def _client(self, compiler: str) -> Any:
        """Makes the program (context leaves, a client's leaves) -> report leaves.

        A program for XLA has one more result: whether a guard was violated.
        """
        programs = self._programs
        use = Use(guarded=compiler == "xla")

        def work(context: Any, leaves: Any) -> list[tf.Tensor]:
            violations = [tf.constant(False)]
            client = programs.client(dict(zip(programs.read, leaves)))
            reported = programs.reported(client, context, use, violations)
            if compiler == "graph":
                return list(reported)
            return [*reported, functools.reduce(tf.logical_or, violations)]

        # Work that reads other leaves can have the same graph, so a program must not
        # find its leaves among others of the same types.
        read = [programs.layout.specs[place] for place in programs.read]
        rows = [tf.TensorSpec(spec.shape[1:], spec.dtype) for spec in read]
        mode = Mode("separate", compiler)
        program = programs.compiled(
            "client",
            mode,
            work,
            programs.context_specs,
            rows,
            graphs=programs.of_client,
        )
        return lambda context, leaves: program(
            context, [leaves[place] for place in programs.read]
        )

    @property
    def _fold(self) -> Any:
        """The program (accumulator, report leaves) -> accumulator."""
        programs = self._programs

        def fold(total: Any, report: Any) -> list[tf.Tensor]:
            split = len(total) - len(programs.secure_types)
            number = programs.num_update_leaves
            folded = programs.trace(
                programs.accumulate, *total[:split], *report[:number]
            )
            secure = zip(total[split:], report[number:])
            return list(folded) + [a + b for a, b in secure]

        return programs.compiled(
            "fold",
            self._mode,
            fold,
            programs.accumulator_specs,
            programs.report_specs,
            graphs=[programs.accumulate],
        )


class SeparateProcess:
    """A process whose round an engine executes in separate steps.

    It converts the process' states and results from and to leaves.

    Args:
      process: any process whose clients hold tensors.
      compiler: the compiler of the clients' work, "xla" or "graph"; None for "xla"
        where XLA executes it as TensorFlow does.

    Raises:
      UnsupportedProcess: the process has no map-reduce form, or the compiler cannot
        execute it.
    """

    def __init__(
        self, process: tff.templates.IterativeProcess, compiler: Optional[str] = None
    ):
        programs, explanation = examine(process)
        if programs is None:
            raise UnsupportedProcess(
                f"only TFF's runtime executes this process: {explanation.reason}"
            )
        if compiler is None:
            compiler = choice.candidates(programs)[0].compiler
        self._process, self._programs = process, programs
        self._state_type = process_shape.parameters(process)[0]
        self.compiler = compiler
        self.clients = SeparateClients(programs, compiler)

    def initialize(self) -> Any:
        """Returns the initial server state."""
        leaves = self._programs.initialize.run()
        return pack(iter(leaves), self._process.initialize.type_signature.result)

    def state_leaves(self, state: Any) -> list[tf.Tensor]:
        """Returns the tensors of a state from any engine of the process."""
        return tensors(state, self._state_type)

    def packed(self, leaves: Sequence[tf.Tensor]) -> tuple[Any, Any]:
        """Makes the new state and the metrics from the leaves of a round's result."""
        result_type = self._process.next.type_signature.result
        return process_shape.split(pack(iter(leaves), result_type), self._process)

    @property
    def context_layout(self) -> list[tuple[np.dtype, tuple[int, ...]]]:
        """Types and shapes of the tensors that the server sends to clients."""
        return [_layout(spec) for spec in self._programs.context_specs]

    @property
    def report_layout(self) -> list[tuple[np.dtype, tuple[int, ...]]]:
        """Types and shapes of a report's tensors; those of secure sums last."""
        return [_layout(spec) for spec in self._programs.report_specs]

    def kept_positions(self, member: str) -> list[int]:
        """Finds the tensors of a report that only the table of clients' states needs.

        These tensors are a client's new state, and the client's position in the cohort
        (`processes.client_states.collect`).

        Args:
          member: name of the member of a client's value that holds its position in
            the cohort.

        Returns:
          The tensors' indices in a report; empty if clients keep no states.

        Raises:
          ValueError: clients have such a member, but do not report its unchanged value.
        """
        before = 0
        for name, kind in tff.structure.iter_elements(self._programs.client_type):
            if name == member:
                break
            before += len(leaf_types(kind))
        else:
            return []
        forwarded = self._programs.work.forwarded
        places = [p for p, argument in enumerate(forwarded) if argument == before]
        if not places:
            raise ValueError(
                f"the clients' {member} is none of the tensors that they report, so it "
                "is not known which of these tensors stay with a client: expected a "
                f"computation that returns {member} unchanged"
            )
        return [kept for place in places for kept in (place - 1, place)]

    @property
    def secure_layout(self) -> list[tuple[np.dtype, tuple[int, ...], int]]:
        """Types, shapes and moduli of a report's tensors in secure sums.

        If a sum is not modular, its modulus is the number at which its type wraps
        around.
        """
        layout = self.report_layout[self.clients.num_plain_leaves :]
        moduli = [int(value) for value in self._programs.moduli.run()]
        free = [2 ** (8 * dtype.itemsize) for dtype, _ in layout]
        moduli = free[: len(layout) - len(moduli)] + moduli
        return [(dtype, shape, m) for (dtype, shape), m in zip(layout, moduli)]


def _layout(spec: tf.TensorSpec) -> tuple[np.dtype, tuple[int, ...]]:
    return np.dtype(spec.dtype.as_numpy_dtype), tuple(spec.shape.as_list())
