"""Chooses how clients are executed, by measuring the modes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from tfl_research.runtime.compiler import choice_cache, chunks
from tfl_research.runtime.compiler.map_reduce import MapReduce, chunk_tensors
from tfl_research.runtime.compiler.mode import Mode
from tfl_research.runtime.tracing.interpreter import CannotTrace

_LOG = logging.getLogger(__name__)

# XLA's convolutions on CPU are slower than TensorFlow's own.
_CONVOLUTIONS = {"Conv2D", "Conv3D", "DepthwiseConv2dNative"}
# Tracing a vectorised program takes seconds. It is tried only if a client's work is so
# short that the time of the loop over clients can matter.
_SHORT_SECONDS = 0.0005
# After so many seconds of executions, a candidate is measured.
_ENOUGH_SECONDS = 0.3
# How TensorFlow says that it cannot build or compile a program.
_FAILURES = (
    tf.errors.OpError,
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
# Number of clients on which folded candidates are measured. The programs compile for
# the whole chunk, and take the number of clients as an argument.
_FEW_CLIENTS = 8


def _seconds(
    programs: MapReduce, mode: Mode, state: Sequence[tf.Tensor], chunk: chunks.Chunk
) -> float:
    """Seconds for a client: the least of up to three executions after compilation."""
    context = programs.start(mode)(state)
    program = programs.chunk(mode)
    leaves, count = chunk_tensors(chunk)
    clients = chunk.count
    if mode.clients == "folded":
        clients = min(clients, _FEW_CLIENTS)
        count = tf.constant(clients, tf.int32)
    program(context, leaves, count)
    best, spent = float("inf"), 0.0
    for _ in range(3):
        begin = time.perf_counter()
        program(context, leaves, count)
        seconds = time.perf_counter() - begin
        best, spent = min(best, seconds), spent + seconds
        if spent > _ENOUGH_SECONDS:
            break
    return best / max(clients, 1)


def candidates(programs: MapReduce) -> list[Mode]:
    """The modes to measure first."""
    modes = [Mode("folded", "graph")]
    if not programs.not_for_xla and programs.work.op_types.isdisjoint(_CONVOLUTIONS):
        modes.insert(0, Mode("folded", "xla"))
    return modes


def refusals(programs: MapReduce, mode: Mode) -> list[str]:
    """Why a mode cannot execute a process as TFF does; empty if it can."""
    if mode.clients == "vectorised" and not programs.vectorises:
        return ["its clients hold datasets, variables or effects"]
    if mode.clients == "separate" and programs.layout.has_sequences:
        return ["its clients hold datasets"]
    return programs.not_for_xla if mode.compiler == "xla" else []


def choose(
    programs: MapReduce, state: Sequence[tf.Tensor], jobs: Iterator[Any]
) -> tuple[Mode, str]:
    """Measures the fastest mode for this process on this machine.

    Executes the cohort's first chunk in each possible mode and ignores the results; the
    state does not change. For an empty cohort, the first candidate is chosen. The
    choice is stored for this user. So a second run does not measure again. Another
    machine, or another user, may choose another mode, whose results are rounded
    differently: an engine's `choice_file` keeps the mode for the starts of one run.

    Returns:
      (mode, the measurements in words).

    Raises:
      CannotTrace: no mode can execute the process.
      InvalidArgumentError: the clients' values are bad.
    """
    modes = candidates(programs)
    first = next(jobs, None)
    if first is None:
        return modes[0], "the first cohort was empty: nothing to measure"
    if len(modes) == 1:
        reasons = programs.not_for_xla or [
            "convolutions: XLA's are slower than TensorFlow's on CPU"
        ]
        return modes[0], reasons[0]
    chunk = first()
    key = choice_cache.key(
        programs.work.fingerprint, [leaf.shape for leaf in chunk.leaves]
    )
    remembered = choice_cache.recall(key)
    if remembered is not None:
        clients, compiler, reason = remembered
        mode = Mode(clients, compiler)
        # Another version of the toolkit may have measured what this one refuses.
        if not refusals(programs, mode):
            return mode, reason
    best, reason = _measured(programs, state, chunk, modes)
    choice_cache.remember(key, (best.clients, best.compiler, reason))
    _LOG.info("in-process runtime: %s (%s)", best, reason)
    return best, reason


def _measured(
    programs: MapReduce,
    state: Sequence[tf.Tensor],
    chunk: chunks.Chunk,
    modes: Sequence[Mode],
) -> tuple[Mode, str]:
    measured: dict[Mode, float] = {}
    notes = []

    failures: list[Exception] = []

    def measure(mode: Mode) -> None:
        try:
            measured[mode] = _seconds(programs, mode, state, chunk)
        except _FAILURES as error:
            failures.append(error)
            reason = str(error).strip().partition("\n")[0][:160]
            notes.append(f"{mode}: cannot ({type(error).__name__}: {reason})")

    for mode in modes:
        measure(mode)
    if not measured:
        bad = [e for e in failures if isinstance(e, tf.errors.InvalidArgumentError)]
        if bad:
            # Bad values of a client, which fail on TFF's runtime too.
            raise bad[-1]
        raise CannotTrace("; ".join(notes))
    if programs.vectorises and min(measured.values()) < _SHORT_SECONDS:
        compiler = min(measured, key=measured.__getitem__).compiler
        measure(Mode("vectorised", compiler))
    best = min(measured, key=measured.__getitem__)
    notes += [f"{mode}: {1000 * s:.2f} ms" for mode, s in measured.items()]
    return best, f"in a chunk of {chunk.count} a client took " + "; ".join(notes)
