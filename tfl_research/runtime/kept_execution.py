"""Keeps in a file how a run executes its rounds, for the run's later starts."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any, Optional

from tfl_research.errors import UserError
from tfl_research.runtime import cores
from tfl_research.runtime.compiler.mode import Mode
from tfl_research.runtime.placement import NONE
from tfl_research.storage import kept_choice
from tfl_research.storage.files import json_file

# A file with a larger number of threads was edited.
_MOST_THREADS = 4096


@dataclasses.dataclass(frozen=True)
class Execution:
    """How rounds are executed.

    Attributes:
      mode: how clients are executed in this process; None on TFF's runtime.
      parallel: number of chunks that are computed at the same time.
      reason: a text that says why this mode was chosen.
      accelerator: "none" or "gpu".
      operation_threads: number of threads that TensorFlow gives each operation on the
        CPU. None if the number is unknown: earlier versions did not keep it, and
        TFF's runtime has its own threads.
    """

    mode: Optional[Mode]
    parallel: int
    reason: str
    accelerator: str = NONE
    operation_threads: Optional[int] = None


class KeptExecution:
    """The file that keeps an execution; without a path nothing is kept."""

    def __init__(self, path: Optional[pathlib.Path], key: bytes):
        self._path, self._key = path, key

    def read(self) -> Optional[Execution]:
        """Returns the execution that an earlier start wrote, or None.

        Raises:
          UserError: the file cannot be read, or was edited.
        """
        if self._path is None:
            return None
        return kept_choice.kept(self._path, _execution, self._key)

    def require(self, execution: Optional[Execution]) -> None:
        """Checks that the execution of the run's earlier rounds is known.

        Raises:
          UserError: the execution is None.
        """
        if execution is None:
            raise UserError(
                f"{self._path} is missing, so it is not known how the run executed its "
                "rounds; restore the file, or choose another --output_dir"
            )

    def check(
        self, execution: Execution, accelerator: str, operation_threads: int
    ) -> None:
        """Checks that this process executes rounds as the run's earlier rounds.

        Args:
          execution: the execution of the earlier rounds.
          accelerator, operation_threads: the settings of this process.

        Raises:
          UserError: the accelerator, or the number of threads for an operation, is
            not that of the earlier rounds.
        """
        if execution.accelerator != accelerator:
            raise UserError(
                f"--accelerator={accelerator}: the run executed its rounds with "
                f"--accelerator={execution.accelerator} ({self._path}), which gives "
                "differently rounded results; give "
                f"--accelerator={execution.accelerator}, or choose another --output_dir"
            )
        kept = execution.operation_threads
        if kept is not None and kept != operation_threads:
            raise UserError(
                f"the run executed its rounds with {_threads(kept)} for each operation "
                f"({self._path}), but TensorFlow has started with "
                f"{_threads(operation_threads)} in this process, which gives "
                "differently rounded results; continue in a new process, with "
                f"{cores.VARIABLE}={kept} in its environment"
            )

    def write(self, execution: Execution) -> None:
        """Keeps an execution, before a round uses it."""
        if self._path is None:
            return
        if execution.mode is None:
            how: dict[str, Any] = {"runtime": "tff"}
        else:
            how = {**dataclasses.asdict(execution.mode), "parallel": execution.parallel}
            if execution.operation_threads is not None:
                how["operation_threads"] = execution.operation_threads
        if execution.accelerator != NONE:
            how["accelerator"] = execution.accelerator
        kept_choice.keep(self._path, {**how, "reason": execution.reason}, self._key)


def _execution(record: dict[str, Any]) -> Execution:
    reason = str(record.get("reason", ""))
    accelerator = str(record.get("accelerator", NONE))
    if record.get("runtime") == "tff":
        return Execution(None, 1, reason, accelerator)
    mode = Mode(record["clients"], record["compiler"])
    return Execution(
        mode, int(record["parallel"]), reason, accelerator, _kept_threads(record)
    )


def _kept_threads(record: dict[str, Any]) -> Optional[int]:
    threads = record.get("operation_threads")
    return None if threads is None else int(threads)


def _threads(number: int) -> str:
    return "1 thread" if number == 1 else f"{number} threads"


def operation_threads(path: pathlib.Path) -> Optional[int]:
    """Reads the number of threads of an operation from a run's file.

    The number must be known before TensorFlow starts. Engines check the file later.

    Returns:
      The number; None if the file has no such number, or cannot be read.
    """
    try:
        threads = _kept_threads(json_file.parsed(path.read_bytes()))
    except (AttributeError, OSError, TypeError, ValueError):
        return None
    return threads if threads is not None and 0 < threads <= _MOST_THREADS else None


@dataclasses.dataclass(frozen=True)
class Division:
    """How the rounds of several workers are divided and executed.

    Attributes:
      parts: number of parts of a cohort.
      by: "chunks" for the compiled programs of in_process, "tff" for TFF's own runtime,
        as all runs of earlier versions are.
      mode: how clients of a chunk are executed; None until a round chooses a mode.
      reason: a text that says why this mode, or TFF's runtime, was chosen.
    """

    parts: int
    by: str = "tff"
    mode: Optional[Mode] = None
    reason: str = ""


class KeptDivision:
    """The file that keeps a division; without a path nothing is kept."""

    def __init__(self, path: Optional[pathlib.Path], key: bytes):
        self._path, self._key = path, key

    def read(self) -> Optional[Division]:
        """Returns the division that an earlier start wrote, or None.

        Raises:
          UserError: the file cannot be read, or was edited.
        """
        if self._path is None:
            return None
        return kept_choice.kept(self._path, _division, self._key)

    def write(self, division: Division) -> None:
        """Keeps a division, before a round uses it."""
        if self._path is None:
            return
        record: dict[str, Any] = {"parts": division.parts, "by": division.by}
        if division.mode is not None:
            record.update(dataclasses.asdict(division.mode))
        kept_choice.keep(self._path, {**record, "reason": division.reason}, self._key)


def _division(record: dict[str, Any]) -> Division:
    mode = None
    if "clients" in record:
        mode = Mode(record["clients"], record["compiler"])
    by = record.get("by", "tff")
    if by not in ("chunks", "tff"):
        raise ValueError(f"by must be chunks or tff, got {by!r}")
    return Division(int(record["parts"]), by, mode, str(record.get("reason", "")))
