"""The program that executes the clients of a chunk and accumulates their reports."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional

import tensorflow as tf

from tfl_research.runtime.compiler.mode import Mode
from tfl_research.runtime.tracing.imports import Use

if TYPE_CHECKING:
    from tfl_research.runtime.compiler.map_reduce import MapReduce


class ChunkProgram:
    """Traces the work of a chunk's clients in a mode.

    Args:
      form: the graphs of the process.
      mode: how clients are executed.
      read: positions of the client leaves that `trace` gets; by default it gets all.
    """

    def __init__(
        self, form: MapReduce, mode: Mode, read: Optional[Sequence[int]] = None
    ):
        self._form, self._mode, self._read = form, mode, read
        self._xla = mode.compiler == "xla"
        # If clients hold datasets, XLA compiles only a part of the work.
        loops = form.layout.has_sequences
        self._use = Use(
            guarded=self._xla and not loops, compiled_loops=self._xla and loops
        )

    def trace(self, context: Any, leaves: Any, count: tf.Tensor) -> list[tf.Tensor]:
        """Traces the program; see `MapReduce.chunk`."""
        places = range(len(leaves)) if self._read is None else self._read
        given = dict(zip(places, leaves))
        report = self._folded if self._mode.clients == "folded" else self._vectorised
        return self._accumulated(report(context, given), count)

    def _folded(self, context: Any, leaves: Mapping[int, Any]) -> Any:
        def report(index: tf.Tensor, violations: list[tf.Tensor]) -> Any:
            rows = {place: self._row(leaf, index) for place, leaf in leaves.items()}
            client = self._form.client(rows)
            return self._form.reported(client, context, self._use, violations)

        return report

    def _vectorised(self, context: Any, leaves: Mapping[int, Any]) -> Any:
        form = self._form
        own = dict(leaves)
        common: dict[int, tf.Tensor] = {}
        if form.step_bound in own:
            common[form.step_bound] = tf.reduce_max(own.pop(form.step_bound))

        use = dataclasses.replace(self._use, at_once=True)

        def work(client: Any) -> Any:
            violations = [tf.constant(False)]
            reported = form.reported(
                form.client({**client, **common}), context, use, violations
            )
            return [*reported, functools.reduce(tf.logical_or, violations)]

        *reported, violated = tf.vectorized_map(work, own)

        def report(index: tf.Tensor, violations: list[tf.Tensor]) -> Any:
            violations.append(violated[index])
            return [self._row(value, index) for value in reported]

        return report

    def _row(self, values: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        """A client's part of the values of all clients."""
        # `tracing.rows` says why XLA gets a gather.
        return tf.gather(values, index) if self._xla else values[index]

    def _accumulated(self, report: Any, count: tf.Tensor) -> list[tf.Tensor]:
        """Accumulates the results of `report(index, violations)` for `count` clients.

        Returns:
          The accumulator, and for XLA whether a guard was violated.
        """
        form = self._form
        number = form.num_update_leaves
        use = self._use if self._use.guarded else Use(in_place=True)

        def body(index: tf.Tensor, accumulator: Any, violated: tf.Tensor) -> Any:
            violations = [violated]
            reported = report(index, violations)
            split = len(accumulator) - len(form.secure_types)
            folded = form.trace(
                form.accumulate,
                *accumulator[:split],
                *reported[:number],
                use=use,
                violations=violations,
            )
            secure = zip(accumulator[split:], reported[number:])
            return (
                index + 1,
                list(folded) + [total + value for total, value in secure],
                functools.reduce(tf.logical_or, violations),
            )

        start = list(form.trace(form.zero)) + form.zero_secure_sums()
        _, accumulator, violated = tf.while_loop(
            lambda index, *_: index < count,
            body,
            (tf.constant(0), start, tf.constant(False)),
            parallel_iterations=1,
        )
        return [*accumulator, violated] if self._xla else accumulator
