"""The graphs of a process' map-reduce form."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.runtime.compiler.shared_programs import SharedPrograms
from tfl_research.runtime.conversion.process_forms import map_reduce_form
from tfl_research.runtime.graphs import process_shape
from tfl_research.runtime.graphs.sequences import ClientLayout
from tfl_research.runtime.graphs.structures import leaf_types, member_names
from tfl_research.runtime.tracing.graph import Graph
from tfl_research.runtime.tracing.imports import PLAIN, Use

# Members of a client's value in the toolkit's own processes
# (`Cohort.stacked`).
COHORT_MEMBERS = ("x", "y", "mask", "num_steps", "num_examples", "seed")


def specs_of(value_type: tff.Type) -> list[Any]:
    """Specs of the tensors in a type without datasets."""
    return [tf.TensorSpec(leaf.shape, leaf.dtype) for leaf in leaf_types(value_type)]


def _step_bound(client_type: tff.Type) -> Optional[int]:
    """Returns the position of the leaf `num_steps`; None for other clients' values."""
    if not set(member_names(client_type)) >= set(COHORT_MEMBERS):
        return None
    before = 0
    for name, member in tff.structure.iter_elements(client_type):
        leaves = leaf_types(member)
        if name == "num_steps":
            is_number = len(leaves) == 1 and isinstance(leaves[0], tff.TensorType)
            return before if is_number and leaves[0].shape == () else None
        before += len(leaves)
    return None


class ProcessGraphs:
    """The graphs of one process, with what their types say.

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
        self._state = specs_of(process.next.type_signature.parameter[0])
        self.context_specs = specs_of(form.prepare.result_type)
        # Position of a client's number of steps among the client's leaves. More steps
        # do not change the result, so vectorised clients can share one number of steps
        # and one loop.
        self.step_bound = _step_bound(self.client_type)
        # Positions of the client's leaves that the work reads. A dataset is several
        # leaves, and counts as read.
        number = len(self.layout.specs)
        self.read = [place for place in self.work.read if place < number]
        if self.layout.has_sequences:
            self.read = list(range(number))
        secure_specs = [tf.TensorSpec(t.shape, t.dtype) for t in self.secure_types]
        self.accumulator_specs = specs_of(form.zero.result_type) + secure_specs
        self.report_specs = specs_of(update) + secure_specs
        self.sharing = SharedPrograms()

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

    def client(self, values: Mapping[int, Any]) -> list[Any]:
        """A client's leaves from their tensors by position; None where one is missing.

        Args:
          values: has all positions of `read`.
        """
        specs = self.layout.specs
        return self.layout.unpack([values.get(place) for place in range(len(specs))])

    def reported(
        self,
        client: Sequence[Any],
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

    @property
    def of_client(self) -> list[Graph]:
        """The graphs that `reported` traces."""
        return [self.work, self.bitwidths, self.largest]

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
