"""Executes the program of a chunk of clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import tensorflow as tf

from tfl_research import _tff_compat
from tfl_research.runtime.compiler.chunks import Chunk
from tfl_research.runtime.compiler.mode import Mode
from tfl_research.runtime.compiler.xla import Refused, executed

if TYPE_CHECKING:
    from tfl_research.runtime.compiler.map_reduce import MapReduce

GRAPH = Mode("folded", "graph")


def chunk_tensors(chunk: Chunk) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Converts a chunk to the last two arguments of a chunk program."""
    leaves = [tf.convert_to_tensor(leaf) for leaf in chunk.leaves]
    count = tf.constant(chunk.count, tf.int32)
    _tff_compat.free_attributes([*leaves, count])
    return leaves, count


def in_graph(
    programs: MapReduce,
    context: Sequence[tf.Tensor],
    chunk: Chunk,
    mode: Mode = GRAPH,
) -> list[tf.Tensor]:
    """The accumulator of a chunk, by TensorFlow's executor."""
    return programs.chunk(mode)(context, *chunk_tensors(chunk))


def run_chunk(
    programs: MapReduce,
    mode: Mode,
    context: Sequence[tf.Tensor],
    chunk: Chunk,
    refused: Refused,
) -> list[tf.Tensor]:
    """The accumulator of a chunk in a mode.

    Args:
      programs: the programs of the process.
      mode: how the clients are executed.
      context: the values that the server sends to clients.
      chunk: the clients' values.
      refused: is called if the mode cannot compile the chunk. TensorFlow's executor
        then executes the clients one after another.

    Raises:
      tf.errors.OpError: a client's computation fails.
    """
    if mode == GRAPH:
        return in_graph(programs, context, chunk)
    if mode.compiler == "graph":
        return executed(
            lambda: [*in_graph(programs, context, chunk, mode), tf.constant(False)],
            lambda: in_graph(programs, context, chunk),
            refused,
            "TensorFlow cannot vectorise",
        )
    leaves, count = chunk_tensors(chunk)
    return executed(
        lambda: programs.chunk(mode)(context, leaves, count),
        lambda: in_graph(programs, context, chunk),
        refused,
    )
