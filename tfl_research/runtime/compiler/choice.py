"""Chooses how clients are executed, by measuring the modes."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Optional

import tensorflow as tf

from tfl_research.runtime import cores
from tfl_research.runtime.compiler import choice_cache, measurement
from tfl_research.runtime.compiler.map_reduce import MapReduce
from tfl_research.runtime.compiler.mode import Mode

_LOG = logging.getLogger(__name__)

# XLA's convolutions on CPU are slower than TensorFlow's own.
_CONVOLUTIONS = {"Conv2D", "Conv3D", "DepthwiseConv2dNative"}
# Chunks whose sizes differ by at most this factor get the same mode.
_NEAR = 4
# The end of the reason if the choice was measured for a chunk of other sizes.
_TAKEN = " (a chunk of other sizes, in the same process)"
# The end of the reason if it was measured for a process with the same client steps.
_ALIKE = " (a process whose clients take the same steps)"


class Choice(NamedTuple):
    """The mode that was chosen.

    Attributes:
      mode: the chosen mode.
      reason: words about the measurements.
      is_compiled: whether the mode's program has executed clients of the chunk.
    """

    mode: Mode
    reason: str
    is_compiled: bool = False


def candidates(programs: MapReduce, hardware: str = "") -> list[Mode]:
    """The modes to measure first.

    Args:
      programs: the programs of the process.
      hardware: the kind of the GPUs that execute clients' work; empty for the CPU.
    """
    modes = [Mode("folded", "graph")]
    is_fast = hardware or programs.work.op_types.isdisjoint(_CONVOLUTIONS)
    if not programs.not_for_xla and is_fast:
        modes.insert(0, Mode("folded", "xla"))
    return modes


def refusals(programs: MapReduce, mode: Mode) -> list[str]:
    """Lists why a mode cannot execute a process as TFF does; empty if it can."""
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
    *,
    fills_cores: bool = False,
    cohort_size: int,
) -> Choice:
    """Measures the fastest mode for this process on this machine.

    The cohort's first chunk is executed in each possible mode, and the results are
    ignored; the state does not change. For an empty cohort, the first candidate is
    chosen. The choice is stored for this user. So a second run does not measure again,
    unless its cohorts are of another size class (`measurement.size_class`). Another
    machine or another user may choose another mode, whose results are rounded
    differently. So an engine's `choice_file` keeps the mode for all starts of a run.

    Args:
      programs: the programs of the process.
      state: the leaves of the server's state.
      jobs: functions that make the chunks of the cohort.
      hardware: the kind of the GPUs that execute clients' work; empty for the CPU.
      fills_cores: whether the round has a chunk for each core. If so, the mode with the
        least time of all cores is chosen, since the measured chunk could use several
        cores.
      cohort_size: the number of clients of the round.

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
    # XLA computes products on the CPU differently if GPUs are visible (`one_thread`).
    sees_gpus = bool(tf.config.get_visible_devices("GPU"))
    kind = hardware or ("CPU beside GPUs" if sees_gpus else "")
    if fills_cores and not hardware:
        kind = f"{kind} by the time of all cores".strip()
    threads = cores.operation_threads()
    if threads != cores.available():
        kind += f", threads of an operation: {threads}"
    if programs.vectorises and not hardware:
        kind = ", ".join(filter(None, (kind, measurement.size_class(cohort_size))))
    key = choice_cache.key(programs.work.fingerprint, shapes, kind)
    measured = programs.measured
    remembered = choice_cache.recall(key)
    if remembered is None:
        remembered = _of_near(measured, shapes, kind, _TAKEN) or _of_near(
            programs.measured_alike, shapes, kind, _ALIKE
        )
        if remembered is not None:
            # A later process makes the same choice for these shapes.
            choice_cache.remember(key, remembered)
    if remembered is not None:
        clients, compiler, reason = remembered
        mode = Mode(clients, compiler)
        # Another version of the toolkit may have chosen a mode that this one refuses.
        if not refusals(programs, mode):
            if not reason.endswith((_TAKEN, _ALIKE)):
                measured[shapes, kind] = remembered
                programs.measured_alike[shapes, kind] = remembered
            return Choice(mode, reason)
    best, reason = measurement.measured(
        programs,
        state,
        chunk,
        modes,
        hardware,
        fills_cores=fills_cores,
        cohort_size=cohort_size,
    )
    found = best.clients, best.compiler, reason
    measured[shapes, kind] = programs.measured_alike[shapes, kind] = found
    choice_cache.remember(key, found)
    _LOG.info("in-process runtime: %s (%s)", best, reason)
    return Choice(best, reason, is_compiled=True)


def _of_near(
    measured: Mapping[Any, tuple[str, str, str]],
    shapes: Any,
    kind: str,
    ending: str,
) -> Optional[tuple[str, str, str]]:
    """Returns the choice for the same work in a chunk of the nearest shapes.

    Cohorts of a Poisson sampler have another size in each run. Measuring takes seconds,
    and a client's work does not depend on how many others are in its chunk.

    Args:
      measured: choices by shapes and kind. None of these choices was taken from another
        chunk, so that shapes that share a choice stay near each other.
      shapes: the shapes of the chunk's leaves.
      kind: the kind of hardware, and of the compared time.
      ending: the end of the reason.

    Returns:
      The choice, with the ending in its reason; None if no shapes are near.
    """
    near = {
        _ratio(shapes, others): found
        for (others, other_kind), found in list(measured.items())
        if other_kind == kind
    }
    least = min(near, default=math.inf)
    if least > _NEAR:
        return None
    clients, compiler, reason = near[least]
    return clients, compiler, reason + ending


def _ratio(shapes: Any, others: Any) -> float:
    """Returns the largest factor between sizes of arrays; inf if a rank differs.

    If there are larger arrays, arrays with one number for each client do not count,
    since an attack has such arrays of its own.
    """
    shapes, others = _larger(shapes), _larger(others)
    if [len(shape) for shape in shapes] != [len(shape) for shape in others]:
        return math.inf
    pairs = [pair for shape, other in zip(shapes, others) for pair in zip(shape, other)]
    return max((max(pair) / max(1, min(pair)) for pair in pairs), default=1.0)


def _larger(shapes: Any) -> Any:
    return [shape for shape in shapes if len(shape) > 1] or shapes
