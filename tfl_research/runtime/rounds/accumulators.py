"""Combines the accumulators of a round's chunks to the round's result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tensorflow as tf

from tfl_research.runtime.compiler.map_reduce import MapReduce
from tfl_research.runtime.compiler.mode import Mode
from tfl_research.runtime.rounds import failures

# Largest number of accumulators that the finishing program takes.
MOST = 2


def zero(programs: MapReduce) -> list[tf.Tensor]:
    """Returns the accumulator of no clients."""
    return [*programs.zero.run(), *programs.zero_secure_sums()]


def result(
    programs: MapReduce,
    mode: Mode,
    state: Sequence[tf.Tensor],
    accumulators: Iterable[list[tf.Tensor]],
) -> list[tf.Tensor]:
    """Computes the leaves of the new state and of the metrics.

    Args:
      programs: the programs of the process.
      mode: how clients were executed.
      state: the leaves of the server's state.
      accumulators: those of the chunks, combined in this order; may be none.

    Raises:
      UserError: the server's computation fails.
    """
    last: list[list[tf.Tensor]] = []
    for accumulator in accumulators:
        last.append(accumulator)
        # The finishing program combines the last ones.
        if len(last) > MOST:
            last[:2] = [programs.combine(mode)(last[0], last[1])]
    last = last or [zero(programs)]
    with failures.at_server():
        return programs.finish(mode, len(last))(state, last)
