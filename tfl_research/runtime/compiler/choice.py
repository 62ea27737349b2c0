"""Chooses how clients are executed, by measuring the modes."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Optional

import tensorflow as tf

from tfl_research.runtime.compiler import choice_cache, chunks
from tfl_research.runtime.compiler.chunk_execution import chunk_tensors
from tfl_research.runtime.compiler.map_reduce import MapReduce
from tfl_research.runtime.compiler.mode import Mode
from tfl_research.runtime.tracing.interpreter import CannotTrace

_LOG = logging.getLogger(__name__)

# XLA's convolutions on CPU are slower than TensorFlow's own.
_CONVOLUTIONS = {"Conv2D", "Conv3D", "DepthwiseConv2dNative"}
# Tracing and compiling a vectorised program takes seconds at each start (8 s for the
# model of the main job). It is tried only if a client's work is so short that the time
# of the loop over clients matters much.
_SHORT_SECONDS = 0.0002
# Candidates are executed in turns, until one of them took so many seconds: in two
# turns or three, or in a single one that is very long. The first turn has one client
# of the chunk, and so have all turns if that client takes long.
_ENOUGH_SECONDS = 0.3
_LONG_SECONDS = 3.0
_MOST_TURNS = 3
_SHORT_CLIENT_SECONDS = 0.1
# How TensorFlow says that it cannot build or compile a program.
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
# Chunks whose sizes differ by at most this factor get the same mode.
_NEAR = 4
# The end of the reason of a choice that was measured for a chunk of other sizes.
_TAKEN = " (a chunk of other sizes, in the same process)"
# The same, of one that was measured for a process whose clients take the same steps.
_ALIKE = " (a process whose clients take the same steps)"
# Number of clients on which folded candidates are measured. The programs compile for
# the whole chunk, and take the number of clients as an argument.
_FEW_CLIENTS = 8
# XLA compiles that many operations in three seconds or more. Where TensorFlow needs so
# much longer for an operation than for its call (about a microsecond), XLA has little
# to save. For a transformer with 5 microseconds for an operation it was 1.4 times as
# fast, with 31 2.7 times as slow, and with 70 2.4 times as slow.
_MANY_OPERATIONS = 2000
_LONG_OPERATION_SECONDS = 20e-6


class Choice(NamedTuple):
    """The mode that was chosen.

    Attributes:
      mode: as chosen.
      reason: the measurements in words.
      is_compiled: whether the mode's program has executed clients of the chunk.
    """

    mode: Mode
    reason: str
    is_compiled: bool = False


class _Candidate:
    """A mode's compiled program, and its fastest execution so far.

    The program is executed once as it is made: the first execution compiles it. A
    folded program executes one client then, until it is given more.
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
        self._best = float("inf")

    def take_more(self) -> None:
        """Executes several clients from now on; earlier executions do not count."""
        self._take(self._most)

    def execute(self) -> float:
        """Executes the program; returns the seconds that it took.

        A program that fails on several clients, for want of memory, is never the
        fastest.

        Raises:
          InvalidArgumentError: the clients' values are bad.
        """
        if self._has_failed:
            return 0.0
        begin = time.perf_counter()
        try:
            _wait(self._program(self._context, self._leaves, self._count))
        except tf.errors.InvalidArgumentError:
            raise
        except _FAILURES as error:
            _LOG.info("in-process runtime: %s: %s", self._mode, error)
            self._has_failed = True
            return 0.0
        seconds = time.perf_counter() - begin
        self._best = min(self._best, seconds)
        return seconds

    @property
    def seconds(self) -> float:
        """Seconds for a client in the fastest execution; infinite if one failed."""
        if self._has_failed:
            return float("inf")
        return self._best / max(self._clients, 1)


def _wait(results: Optional[Sequence[tf.Tensor]]) -> None:
    """Waits until a program's results are there: a GPU computes them later."""
    for result in (results or ())[:1]:
        result.numpy()


def _measure(candidates: Sequence[_Candidate]) -> None:
    """Executes the programs in turns, so that all meet the same noise.

    A slow moment of the machine then delays all programs, or one execution of several:
    the fastest execution of each program counts.
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


def candidates(programs: MapReduce, hardware: str = "") -> list[Mode]:
    """The modes to measure first.

    Args:
      programs: of the process.
      hardware: the kind of the GPUs that execute clients' work; empty for the CPU.
    """
    modes = [Mode("folded", "graph")]
    is_fast = hardware or programs.work.op_types.isdisjoint(_CONVOLUTIONS)
    if not programs.not_for_xla and is_fast:
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
    programs: MapReduce,
    state: Sequence[tf.Tensor],
    jobs: Iterator[Any],
    hardware: str = "",
) -> Choice:
    """Measures the fastest mode for this process on this machine.

    Executes the cohort's first chunk in each possible mode and ignores the results; the
    state does not change. For an empty cohort, the first candidate is chosen. The
    choice is stored for this user. So a second run does not measure again. Another
    machine, or another user, may choose another mode, whose results are rounded
    differently: an engine's `choice_file` keeps the mode for the starts of one run.

    Args:
      programs: of the process.
      state: the leaves of the server's state.
      jobs: functions that make the chunks of the cohort.
      hardware: the kind of the GPUs that execute clients' work; empty for the CPU.

    Raises:
      CannotTrace: no mode can execute the process.
      InvalidArgumentError: the clients' values are bad.
    """
    modes = candidates(programs, hardware)
    first = next(jobs, None)
    if first is None:
        return Choice(modes[0], "the first cohort was empty: nothing to measure")
    if len(modes) == 1 and not (hardware and programs.vectorises):
        reasons = programs.not_for_xla or [
            "convolutions: XLA's are slower than TensorFlow's on CPU"
        ]
        return Choice(modes[0], reasons[0])
    chunk = first()
    shapes = tuple(tuple(leaf.shape) for leaf in chunk.leaves)
    # XLA's products on the CPU are others where GPUs are visible (`one_thread`).
    sees_gpus = bool(tf.config.get_visible_devices("GPU"))
    kind = hardware or ("CPU beside GPUs" if sees_gpus else "")
    key = choice_cache.key(programs.work.fingerprint, shapes, kind)
    measured = programs.measured
    remembered = choice_cache.recall(key)
    if remembered is None:
        remembered = _of_near(measured, shapes, hardware, _TAKEN) or _of_near(
            programs.measured_alike, shapes, hardware, _ALIKE
        )
        if remembered is not None:
            # A later process makes the same choice for these shapes.
            choice_cache.remember(key, remembered)
    if remembered is not None:
        clients, compiler, reason = remembered
        mode = Mode(clients, compiler)
        # Another version of the toolkit may have measured what this one refuses.
        if not refusals(programs, mode):
            if not reason.endswith((_TAKEN, _ALIKE)):
                measured[shapes, hardware] = remembered
            return Choice(mode, reason)
    best, reason = _measured(programs, state, chunk, modes, hardware)
    found = best.clients, best.compiler, reason
    measured[shapes, hardware] = programs.measured_alike[shapes, hardware] = found
    choice_cache.remember(key, found)
    _LOG.info("in-process runtime: %s (%s)", best, reason)
    return Choice(best, reason, is_compiled=True)


def _executed_operations(programs: MapReduce, chunk: chunks.Chunk) -> int:
    """How many operations the chunk's first client executes.

    Returns:
      0 if XLA compiles the client's work in a few seconds, or if nobody knows: where
      the work has other loops than that over the client's steps.
    """
    sizes = programs.work.sizes
    few = sum(sizes) < _MANY_OPERATIONS
    if few or len(sizes) != 2 or programs.step_bound is None:
        return 0
    return sizes[0] + sizes[1] * int(chunk.leaves[programs.step_bound][0])


def _of_near(
    measured: Mapping[Any, tuple[str, str, str]],
    shapes: Any,
    hardware: str,
    ending: str,
) -> Optional[tuple[str, str, str]]:
    """The choice for the same work in the chunk whose shapes are nearest to these.

    Cohorts of a Poisson sampler have another size in each run. Measuring takes seconds,
    and a client's work does not depend on how many others are in its chunk.

    Args:
      measured: choices by shapes and hardware. None of them was taken from another
        chunk, so that the shapes that share a choice stay near each other.
      shapes: of the chunk's leaves.
      hardware: see `choose`.
      ending: of the reason.

    Returns:
      The choice, with the ending; None if no shapes are near.
    """
    near = {
        _ratio(shapes, others): found
        for (others, of_hardware), found in list(measured.items())
        if of_hardware == hardware
    }
    least = min(near, default=math.inf)
    if least > _NEAR:
        return None
    clients, compiler, reason = near[least]
    return clients, compiler, reason + ending


def _ratio(shapes: Any, others: Any) -> float:
    """The largest factor by which a size of the arrays differs; infinite for a rank.

    Where there are larger arrays, those with one number for each client do not count:
    an attack has some of its own.
    """
    shapes, others = _larger(shapes), _larger(others)
    if [len(shape) for shape in shapes] != [len(shape) for shape in others]:
        return math.inf
    pairs = [pair for shape, other in zip(shapes, others) for pair in zip(shape, other)]
    return max((max(pair) / max(1, min(pair)) for pair in pairs), default=1.0)


def _larger(shapes: Any) -> Any:
    return [shape for shape in shapes if len(shape) > 1] or shapes


def _measured(
    programs: MapReduce,
    state: Sequence[tf.Tensor],
    chunk: chunks.Chunk,
    modes: Sequence[Mode],
    hardware: str = "",
) -> tuple[Mode, str]:
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
            failures.append(error)
            reason = str(error).strip().partition("\n")[0][:160]
            notes.append(f"{mode}: cannot ({type(error).__name__}: {reason})")

    def fastest() -> Mode:
        return min(built, key=lambda mode: built[mode].seconds)

    executed = 0 if hardware else _executed_operations(programs, chunk)
    if executed and len(modes) > 1:
        plain = Mode("folded", "graph")
        build(plain)
        if plain in built:
            seconds = built[plain].execute() / executed
            if seconds > _LONG_OPERATION_SECONDS:
                # Not of one slow moment of the machine.
                seconds = min(seconds, built[plain].execute() / executed)
            if seconds > _LONG_OPERATION_SECONDS:
                return plain, (
                    f"each of {executed} operations of a client took "
                    f"{1e6 * seconds:.0f} us, so that XLA, which would compile long, "
                    "has little to save"
                )
    for mode in modes:
        build(mode)
    # In the order of the modes, of which the first counts among equals.
    built = {mode: built[mode] for mode in modes if mode in built}
    if not built:
        bad = [e for e in failures if isinstance(e, tf.errors.InvalidArgumentError)]
        if bad:
            # Bad values of a client, which fail on TFF's runtime too.
            raise bad[-1]
        raise CannotTrace("; ".join(notes))
    if len(built) > 1 or programs.vectorises:
        _measure(list(built.values()))
    best = fastest()
    # A GPU executes many small clients at once as fast as one.
    is_short = bool(hardware) or built[best].seconds < _SHORT_SECONDS
    if programs.vectorises and is_short:
        build(Mode("vectorised", best.compiler))
        # The folded program again too, in the same turns.
        _measure([built[best], *list(built.values())[-1:]])
        best = fastest()
    notes += [f"{mode}: {1000 * c.seconds:.2f} ms" for mode, c in built.items()]
    return best, f"in a chunk of {chunk.count} a client took " + "; ".join(notes)
