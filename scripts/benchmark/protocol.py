"""The protocol between a contender's process and scripts/bench.

A contender says `{"start_seconds": ...}` after its first round. If it tries several
settings, it says `{"trial_seconds": ...}` after each trial. It then reads how many
rounds to run, a number a line, and answers each line with
`{"seconds": [...], "cpu_seconds": [...], "peak_bytes": ...}`; an empty line ends it.
`cpu_seconds` counts the contender's first process in each round; `all_cpu_seconds`
counts all its processes and is the mean over the rounds.
Needs Python alone, since the peers run in environments of their own.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Optional, TextIO

STARTED = time.time()

# The environment variable by which the processes of a contender are known, whatever
# session they moved to and whoever their parent is.
MARK = "TFL_RESEARCH_CONTENDER"
# The environment variable of all processes that a program of this folder starts.
DRIVER_MARK = "TFL_RESEARCH_DRIVER"

# The member of a line that tells the seconds of a trial; it answers nothing.
TRIAL = "trial_seconds"
# Rounds in which a setting is tried, after a round that may compile.
_TRIAL_ROUNDS = 2
# A setting whose rounds take longer than the first number is tried once after the round
# that may compile. Above the second number, the round that may compile counts.
_LONG_SECONDS, _VERY_LONG_SECONDS = 4.0, 30.0


def marked(mark: str, variable: str = MARK) -> list[int]:
    """Ids of the running processes whose environment carries the mark."""
    wanted = f"{variable}={mark}".encode()
    numbers = []
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                variables = (folder / "environ").read_bytes().split(b"\0")
            except OSError:  # Ended meanwhile, or another user's.
                continue
            if wanted in variables:
                numbers.append(int(folder.name))
    return numbers


def kill_marked(mark: str, variable: str = MARK) -> None:
    """Ends every process that carries the mark."""
    while pids := marked(mark, variable):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)


def memory_bytes(pid: int, field: str) -> int:
    """A field of a process' status, such as VmHWM (peak) or VmRSS; 0 if it ended."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    return 0


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process so far, without its children's; 0 if it ended."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    # After the name in brackets, which may have spaces.
    user, system = text.rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def total_bytes(field: str) -> int:
    """The field's sum over this contender's processes.

    A page that several of them share counts in each.
    """
    pids = marked(os.environ[MARK]) if MARK in os.environ else [os.getpid()]
    return sum(memory_bytes(pid, field) for pid in pids)


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process, its ended children included; 0 if it ended."""
    try:
        line = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    # After the name, which may hold spaces, come the fields from the third on.
    fields = line.rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def all_cpu_seconds() -> float:
    """CPU seconds that this contender's processes have taken so far."""
    pids = marked(os.environ[MARK]) if MARK in os.environ else [os.getpid()]
    return sum(map(_cpu_seconds, pids))


def take_stdout() -> TextIO:
    """The pipe for answers; what is printed from now on goes to the log."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _say(answers: TextIO, **values: Any) -> None:
    print(json.dumps(values), file=answers, flush=True)


def _trials(taken: Sequence[float]) -> int:
    """How many rounds a setting is run for, after rounds that took these seconds."""
    shortest = min(taken, default=0.0)
    if shortest > _VERY_LONG_SECONDS:
        return 1
    return 2 if shortest > _LONG_SECONDS else 1 + _TRIAL_ROUNDS


def rounds(
    answers: TextIO,
    settings: Sequence[Callable[[], None]] = (),
    weights: Optional[Callable[[], Sequence[Any]]] = None,
) -> Iterator[int]:
    """Yields the number of each round to run, and times what happens until it resumes.

    Args:
      answers: of `take_stdout`.
      settings: ways of running that each calls its function to switch to. The first
        round has the first of them; then each is tried, untimed by scripts/bench,
        and the fastest stays.
      weights: gives the global model's arrays; how far the first round moved them is
        then said with the start.
    """
    number = 0
    if settings:
        settings[0]()
    before = [] if weights is None else [array.copy() for array in weights()]
    yield number
    start = {"start_seconds": time.time() - STARTED}
    if weights is not None:
        moved = (((a - b) ** 2).sum() for a, b in zip(weights(), before))
        start["update_norm"] = float(sum(moved)) ** 0.5
    _say(answers, **start)
    if len(settings) > 1:
        times = []
        for setting in settings:
            setting()
            taken: list[float] = []
            while len(taken) < _trials(taken):
                number += 1
                begin = time.perf_counter()
                yield number
                taken.append(time.perf_counter() - begin)
                _say(answers, **{TRIAL: taken[-1]})
            times.append(min(taken[1:] or taken))
        chosen = times.index(min(times))
        settings[chosen]()
        print(f"setting {chosen} of {times}", file=sys.stderr, flush=True)
    for line in sys.stdin:
        if not line.strip():
            return
        seconds, cpu_seconds, all_before = [], [], all_cpu_seconds()
        for _ in range(int(line)):
            number += 1
            begin, cpu_begin = time.perf_counter(), time.process_time()
            yield number
            seconds.append(time.perf_counter() - begin)
            cpu_seconds.append(time.process_time() - cpu_begin)
        _say(
            answers,
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            all_cpu_seconds=(all_cpu_seconds() - all_before) / max(1, len(seconds)),
            peak_bytes=total_bytes("VmHWM"),
            resident_bytes=total_bytes("VmRSS"),
        )
