"""The program of a chunk of clients as a computation for TFF's worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.runtime.compiler.chunk_program import ChunkProgram
from tfl_research.runtime.compiler.map_reduce import MapReduce
from tfl_research.runtime.compiler.mode import Mode
from tfl_research.runtime.tracing.one_thread import on_one_thread


class WorkerProgram(NamedTuple):
    """The program of a chunk of clients as TFF's worker executes it.

    Attributes:
      computation: a `tff.Computation` from (context leaves, client leaves
        `[clients, ...]` and the int32 number of clients) to the result of
        `MapReduce.chunk`.
      context_type: TFF type of the context leaves.
      leaves_type: TFF type of the client leaves and the number of real clients.
    """

    computation: Any
    context_type: tff.StructType
    leaves_type: tff.StructType


def worker_program(programs: MapReduce, mode: Mode) -> WorkerProgram:
    """The program of a chunk in a mode, which XLA compiles on the worker or not.

    Args:
      programs: the programs of a process without datasets.
      mode: how clients are executed; not "separate".
    """
    trace = ChunkProgram(programs, mode).trace
    program: Any = tf.function(trace, autograph=False)
    if programs.by_xla(mode):
        program = _compiled(programs, trace)
    context_type = type_of(programs.context_specs)
    leaves_type = type_of([*programs.layout.specs, tf.TensorSpec([], tf.int32)])

    @tff.tensorflow.computation(tff.StructType([context_type, leaves_type]))
    def chunk(given: Any) -> Any:
        *leaves, count = list(given[1])
        return program(list(given[0]), leaves, count)

    return WorkerProgram(chunk, context_type, leaves_type)


def _compiled(programs: MapReduce, trace: Any) -> Any:
    """Makes an XLA program with the arguments, and so the results, as in process."""
    lifted, constants = programs.sharing.with_arguments(trace, [programs.work])
    program = on_one_thread(tf.function(lifted, jit_compile=True, autograph=False))
    return lambda *values: program(list(map(tf.constant, constants)), *values)


def type_of(specs: Sequence[tf.TensorSpec]) -> tff.StructType:
    """The TFF type of tensors."""
    return tff.StructType(
        [
            tff.TensorType(
                np.str_ if s.dtype == tf.string else s.dtype.as_numpy_dtype, s.shape
            )
            for s in specs
        ]
    )
