"""A run of a program: its processes, memory and rounds, until it ends or is killed."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
from benchmark import protocol
from benchmark.contender import last_error

from compare import federated_task, recorder

_POLL_SECONDS = 0.2
# A run of which this long no further round is done hangs.
PATIENCE_SECONDS = 600.0


class TrialFailed(RuntimeError):
    """The program ended with an error, hangs, or left rounds out."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """What was seen of a run.

    Attributes:
      started: when its command started, seconds since the epoch.
      rounds: what `recorder` wrote in this run, in order.
      peak_bytes: the largest sum of its processes' memory, each at its peak so far.
      processes: the largest number of its processes at once.
      cpu_seconds: of all its processes, each as it was last seen.
      log: the file of what it printed.
    """

    started: float
    rounds: list[dict[str, Any]]
    peak_bytes: int
    processes: int
    cpu_seconds: float
    log: pathlib.Path

    @property
    def start_seconds(self) -> float:
        """From the command to the end of the first round."""
        return self.rounds[0]["came"] - self.started

    @property
    def round_seconds(self) -> list[float]:
        """Of every round but the first."""
        pairs = zip(self.rounds, self.rounds[1:])
        return [later["came"] - earlier["went"] for earlier, later in pairs]


def read_rounds(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The lines that were written; one that is cut short does not count."""
    path = folder / recorder.LINES
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines]


def model(folder: pathlib.Path, number: int) -> list[np.ndarray]:
    """The global model after a round.

    Raises:
      TrialFailed: there is none, or it has other shapes than the task's.
    """
    try:
        with np.load(folder / f"model{number}.npz") as file:
            arrays = [file[name] for name in sorted(file.files)]
    except OSError as error:
        raise TrialFailed(f"there is no model after round {number}") from error
    shapes = [array.shape for array in arrays]
    wanted = [array.shape for array in federated_task.glorot(0)]
    if shapes != wanted:
        raise TrialFailed(f"its model has the shapes {shapes}, expected {wanted}")
    return arrays


def _environment(
    task: pathlib.Path, folder: pathlib.Path, paths: Sequence[str], rounds: int
) -> dict[str, str]:
    # Foreign Python settings would mix packages into the environment. Programs that
    # write into the home folder write into the run's; downloads stay in the cache.
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    kept.pop("VIRTUAL_ENV", None)
    cache = kept.get("XDG_CACHE_HOME") or str(pathlib.Path.home() / ".cache")
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(paths),
        "HOME": str(folder),
        "XDG_CACHE_HOME": cache,
        "TMPDIR": str(temporary),
        federated_task.TASK: str(task),
        federated_task.OUTPUT: str(folder),
        federated_task.ROUNDS: str(rounds),
    }


def run(
    command: Sequence[str],
    task: pathlib.Path,
    folder: pathlib.Path,
    *,
    paths: Sequence[str],
    rounds: int,
    kill_after: Optional[int] = None,
    variables: Optional[Mapping[str, str]] = None,
) -> Trial:
    """Runs a program to its end, or kills it when a round is done.

    Args:
      command: the program.
      task: the folder of `federated_task.write`.
      folder: what the program keeps; a run that goes on finds what the last one left.
      paths: of PYTHONPATH.
      rounds: of a whole run.
      kill_after: the round after which all of its processes get SIGKILL.
      variables: further environment variables.

    Raises:
      TrialFailed: see there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = _environment(task, folder, paths, rounds)
    environment.update(variables or {})
    mark = uuid.uuid4().hex
    environment[protocol.MARK] = mark
    if kill_after is not None:
        environment[recorder.WAIT] = str(kill_after)
    before = len(read_rounds(folder))
    log = folder / f"log{before}.txt"
    started = time.time()
    peak = processes = 0
    cpu: dict[int, float] = {}
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
    try:
        newest, seen = time.time(), before
        while process.poll() is None:
            pids = protocol.marked(mark)
            total = sum(protocol.memory_bytes(pid, "VmHWM") for pid in pids)
            peak, processes = max(peak, total), max(processes, len(pids))
            for pid in pids:
                cpu[pid] = max(cpu.get(pid, 0.0), protocol.cpu_seconds(pid))
            done = read_rounds(folder)
            if len(done) > seen:
                newest, seen = time.time(), len(done)
            stop = kill_after is not None and seen > before
            if stop and done[-1]["round"] >= kill_after:
                break
            if time.time() - newest > PATIENCE_SECONDS:
                raise TrialFailed(
                    f"no round was done in {PATIENCE_SECONDS:.0f} s; its log ends: "
                    f"{last_error(log.read_text(errors='replace'))}"
                )
            time.sleep(_POLL_SECONDS)
    finally:
        protocol.kill_marked(mark)
        process.wait()
    done = read_rounds(folder)[before:]
    found = Trial(started, done, peak, processes, sum(cpu.values()), log)
    _check(found, process.returncode, rounds if kill_after is None else kill_after)
    return found


def _check(found: Trial, code: int, last: int) -> None:
    numbers = [line["round"] for line in found.rounds]
    text = found.log.read_text(errors="replace")
    if not numbers:
        raise TrialFailed(f"it ended without a round: {last_error(text)}")
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise TrialFailed(f"it did the rounds {numbers}")
    if numbers[-1] != last:
        raise TrialFailed(f"it ended after round {numbers[-1]}: {last_error(text)}")
    if code > 0:
        raise TrialFailed(f"it ended with exit code {code}: {last_error(text)}")
