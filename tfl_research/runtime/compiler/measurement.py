"""Measures the modes in which a chunk's clients can be executed."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import Optional

import tensorflow as tf

from tfl_research import interrupts
from tfl_research.runtime.compiler import chunks
from tfl_research.runtime.compiler.chunk_execution import chunk_tensors
from tfl_research.runtime.compiler.map_reduce import MapReduce
from tfl_research.runtime.compiler.mode import Mode
from tfl_research.runtime.compiler.xla import said_by
from tfl_research.runtime.tracing.interpreter import CannotTrace

_LOG = logging.getLogger(__name__)

# Tracing and compiling a vectorised program takes seconds at each start (8 s for the
# model of the main job). It is tried only if a client's work is so short that the time
# of the loop over clients matters much, and if all clients of a round together take so
# long that some hundred rounds win these seconds back.
_SHORT_SECONDS = 0.0002
_WORTH_SECONDS = 0.1
# Cohorts whose sizes differ by a larger factor are measured anew.
_NEAR_COHORTS = 4
# Candidates are executed in turns until one of them has taken this many seconds: in two
# or three turns, or in a single long turn. The first turn has one client of the chunk.
# If this client takes long, all turns have one client.
_ENOUGH_SECONDS = 0.3
_LONG_SECONDS = 3.0
_MOST_TURNS = 3
_SHORT_CLIENT_SECONDS = 0.1
# Longer executions are compared by the time of all cores. Shorter ones are not, since
# the kernel counts the time of some threads in steps of milliseconds.
_COUNTED_SECONDS = 0.02
# Errors by which TensorFlow says that it cannot build or compile a program.
_FAILURES = (
    tf.errors.OpError,
    ArithmeticError,
    # As `tf.vectorized_map` does, for some operations that it cannot vectorise.
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
# Number of clients on which folded candidates are measured. The programs are compiled
# for the whole chunk, and take the number of clients as an argument.
_FEW_CLIENTS = 8
# XLA compiles this many operations in three seconds or more. If TensorFlow's operations
# take much longer than their calls (about a microsecond), XLA can save little. XLA was
# 1.4 times as fast for a transformer with 5 microseconds for an operation. For a
# transformer with 70 microseconds (W8 of the benchmark), XLA needs about the same time,
# and compiles for 10 s.
_MANY_OPERATIONS = 2000
_LONG_OPERATION_SECONDS = 20e-6


class _Candidate:
    """A mode's compiled program, and its fastest execution so far.

    Making a candidate executes the program once, which compiles the program. A folded
    program then executes one client, until `take_more` is called.
    """

    def __init__(
        self,
        programs: MapReduce,
        mode: Mode,
        state: Sequence[tf.Tensor],
        chunk: chunks.Chunk,
    ):
        self._context = programs.start(mode)(state)
        self._program = programs.chunk(mode)
        self._leaves, self._count = chunk_tensors(chunk)
        self._clients, self._is_folded = chunk.count, mode.clients == "folded"
        self._most = min(chunk.count, _FEW_CLIENTS)
        self._mode, self._has_failed = mode, False
        self._take(1)
        self._program(self._context, self._leaves, self._count)

    def _take(self, clients: int) -> None:
        if self._is_folded and self._clients != clients:
            self._clients = clients
            self._count = tf.constant(clients, tf.int32)
        self._best = self._best_cpu = float("inf")

    def take_more(self) -> None:
        """Executes several clients from now on; earlier executions do not count."""
        self._take(self._most)

    def execute(self) -> float:
        """Executes the program; returns the seconds that it took.

        A program that fails on several clients, because memory is not enough, is never
        the fastest.

        Raises:
          InvalidArgumentError: the clients' values are bad.
        """
        if self._has_failed:
            return 0.0
        begin, begin_cpu = time.perf_counter(), time.process_time()
        try:
            _wait(self._program(self._context, self._leaves, self._count))
        except tf.errors.InvalidArgumentError:
            raise
        except _FAILURES as error:
            interrupts.check()
            _LOG.info("in-process runtime: %s: %s", self._mode, error)
            self._has_failed = True
            return 0.0
        seconds = time.perf_counter() - begin
        self._best = min(self._best, seconds)
        self._best_cpu = min(self._best_cpu, time.process_time() - begin_cpu)
        return seconds

    @property
    def seconds(self) -> float:
        """Seconds for a client in the fastest execution; infinite if one failed."""
        if self._has_failed:
            return float("inf")
        return self._best / max(self._clients, 1)

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of all cores for a client in the fastest execution."""
        if self._has_failed:
            return float("inf")
        return self._best_cpu / max(self._clients, 1)

    @property
    def is_counted(self) -> bool:
        """Whether an execution takes long enough to know the cores' time."""
        return self._has_failed or self._best >= _COUNTED_SECONDS


def _wait(results: Optional[Sequence[tf.Tensor]]) -> None:
    """Waits for a program's results, which a GPU computes later."""
    for result in (results or ())[:1]:
        result.numpy()


def _measure(candidates: Sequence[_Candidate]) -> None:
    """Executes the programs in turns, so that all have the same disturbances.

    A slow moment of the machine then delays all programs, or only one of several
    executions. The fastest execution of each program counts.
    """
    spent = [candidate.execute() for candidate in candidates]
    turns = _MOST_TURNS - 1
    if max(spent) > _LONG_SECONDS:
        return
    if max(spent) < _SHORT_CLIENT_SECONDS:
        turns, spent = _MOST_TURNS, [0.0] * len(candidates)
        for candidate in candidates:
            candidate.take_more()
    for turn in range(turns):
        for index, candidate in enumerate(candidates):
            spent[index] += candidate.execute()
        if max(spent) > _ENOUGH_SECONDS and (turn or turns < _MOST_TURNS):
            return


def _executed_operations(programs: MapReduce, chunk: chunks.Chunk) -> int:
    """How many operations the chunk's first client executes.

    Returns:
      The number. 0 if XLA compiles the client's work in a few seconds, or if the number
      is unknown, because the work has loops other than the one over the client's steps.
    """
    sizes = programs.work.sizes
    few = sum(sizes) < _MANY_OPERATIONS
    if few or len(sizes) != 2 or programs.step_bound is None:
        return 0
    return sizes[0] + sizes[1] * int(chunk.leaves[programs.step_bound][0])


def size_class(cohort_size: int) -> str:
    """Returns words for a cohort's size class; cohorts of one class share a choice.

    A vectorised program is worth its compilation only for many clients. So a choice
    that was measured for a few clients is not used for many, and the other way round.

    Args:
      cohort_size: number of clients.

    Returns:
      Empty for cohorts that are too small for any vectorised program.
    """
    least = max(1, math.ceil(_WORTH_SECONDS / _SHORT_SECONDS))
    if cohort_size < least:
        return ""
    while cohort_size >= _NEAR_COHORTS * least:
        least *= _NEAR_COHORTS
    return f"cohorts of {least} clients or more"


def measured(
    programs: MapReduce,
    state: Sequence[tf.Tensor],
    chunk: chunks.Chunk,
    modes: Sequence[Mode],
    hardware: str = "",
    *,
    fills_cores: bool = False,
    cohort_size: int,
) -> tuple[Mode, str]:
    """Executes a chunk's clients in the modes.

    Args:
      programs, state, hardware, fills_cores, cohort_size: see `choice.choose`.
      chunk: the clients.
      modes: the modes to measure; a vectorised mode is added for many short clients.

    Returns:
      The fastest mode, and words about the measurements.

    Raises:
      CannotTrace: no mode can execute the process.
      InvalidArgumentError: the clients' values are bad.
    """
    built: dict[Mode, _Candidate] = {}
    notes = []
    failures: list[Exception] = []

    tried: set[Mode] = set()

    def build(mode: Mode) -> None:
        if mode in tried:
            return
        tried.add(mode)
        try:
            built[mode] = _Candidate(programs, mode, state, chunk)
        except _FAILURES as error:
            interrupts.check()
            failures.append(error)
            reason = said_by(error)[:160]
            notes.append(f"{mode}: cannot ({type(error).__name__}: {reason})")

    def by_cores() -> bool:
        of_cpu = fills_cores and not hardware
        return of_cpu and all(one.is_counted for one in built.values())

    def fastest() -> Mode:
        if by_cores():
            return min(built, key=lambda mode: built[mode].cpu_seconds)
        return min(built, key=lambda mode: built[mode].seconds)

    executed = 0 if hardware else _executed_operations(programs, chunk)
    if executed and len(modes) > 1:
        plain = Mode("folded", "graph")
        build(plain)
        if plain in built:
            seconds = built[plain].execute() / executed
            if seconds > _LONG_OPERATION_SECONDS:
                # A second execution, in case the first met a slow moment.
                seconds = min(seconds, built[plain].execute() / executed)
            if seconds > _LONG_OPERATION_SECONDS:
                return plain, (
                    f"each of {executed} operations of a client took "
                    f"{1e6 * seconds:.0f} us, so XLA could save little time, and would "
                    "take long to compile"
                )
    for mode in modes:
        build(mode)
    # In the order of the modes, of which the first counts among equals.
    built = {mode: built[mode] for mode in modes if mode in built}
    if not built:
        bad = [e for e in failures if isinstance(e, tf.errors.InvalidArgumentError)]
        if bad:
            # A client's values are bad, and would fail on TFF's runtime too.
            raise bad[-1]
        raise CannotTrace("; ".join(notes))
    if len(built) > 1 or programs.vectorises:
        _measure(list(built.values()))
    best = fastest()
    # A GPU executes many small clients at once as fast as one client.
    seconds = built[best].seconds
    is_worth = seconds * cohort_size >= _WORTH_SECONDS
    if programs.vectorises and (hardware or (seconds < _SHORT_SECONDS and is_worth)):
        build(Mode("vectorised", best.compiler))
        # The folded program is measured again, in the same turns.
        _measure([built[best], *list(built.values())[-1:]])
        best = fastest()
    taken_by = {m: c.cpu_seconds if by_cores() else c.seconds for m, c in built.items()}
    notes += [f"{mode}: {1000 * taken:.2f} ms" for mode, taken in taken_by.items()]
    what = "a client took, on all cores together, " if by_cores() else "a client took "
    return best, f"in a chunk of {chunk.count} {what}" + "; ".join(notes)
