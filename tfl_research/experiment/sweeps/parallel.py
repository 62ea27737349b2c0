"""Points of a sweep in several processes, which share nothing but the sweep's folder.

The processes are divided from this one before TensorFlow is imported, so that points
need not be sent: they may hold arrays, functions and models of a user's own. Each
process runs one point after another, and so compiles once what its points share. It
ends with this process, whatever ends that.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import multiprocessing
import os
import pathlib
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from typing import Any, Optional, TextIO

from tfl_research.errors import RunInterrupted, SettingError, UserError

# Of a process that trains a small model; most of it is TensorFlow. Data and a large
# model come on top.
PROCESS_BYTES = 1_200_000_000
_PR_SET_PDEATHSIG = 1
_ENDING_SECONDS = 60.0
# Runs a point, writing its progress to the stream.
RunPoint = Callable[[int, TextIO], None]


def free_bytes() -> Optional[int]:
    """Memory that new processes may take; None where Linux does not say."""
    found = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = pathlib.Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        found.append(1024 * int(line.split()[1]))
    with contextlib.suppress(OSError, ValueError):
        # A container's limit; "max" without one.
        group = pathlib.Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
        found.append(max(0, most - used))
    return min(found, default=None)


def processes_for(asked: int, points: int, out: TextIO) -> int:
    """How many processes run the points; says in a line where memory has not enough.

    Args:
      asked: for, at least 1.
      points: that are left to run.
      out: gets the line.
    """
    wanted = min(asked, points)
    free = free_bytes()
    if wanted <= 1 or free is None:
        return max(1, wanted)
    count = max(1, min(wanted, free // PROCESS_BYTES))
    if count < wanted:
        out.write(
            f"{count} point{'s' if count > 1 else ''} at a time in place of {wanted}: "
            f"a process takes about {PROCESS_BYTES / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB of memory are free\n"
        )
        out.flush()
    return count


def check_divisible() -> None:
    """Refuses to divide this process where its threads would be lost.

    Raises:
      SettingError: TensorFlow is imported.
    """
    if "tensorflow" in sys.modules:
        raise SettingError(
            "--parallel: TensorFlow is imported already, and a process cannot be "
            "divided after that; run the sweep before anything imports TensorFlow (a "
            "plugin or the script itself), or leave --parallel out"
        )


class PointFailed(RuntimeError):
    """A point failed in its process in a way that nobody foresaw."""


class Workers:
    """Processes that wait for points; made before the points are checked.

    Use as a context: at its end no process is left.
    """

    def __init__(self, count: int, names: Sequence[str], run_point: RunPoint):
        """Divides this process.

        Args:
          count: of processes.
          names: of the points, by their numbers.
          run_point: what each of them does with the number of a point.

        Raises:
          SettingError: see `check_divisible`.
        """
        check_divisible()
        context = multiprocessing.get_context("fork")
        self._names = names
        self._signal: Optional[int] = None
        self._links: dict[Any, Any] = {}
        # What is not written yet would be written by each process.
        sys.stdout.flush()
        sys.stderr.flush()
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve,
                args=(theirs, [*self._links, ours], run_point, os.getpid()),
                daemon=True,
            )
            process.start()
            theirs.close()
            self._links[ours] = process

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *raised: object) -> None:
        self._end(signal.SIGTERM)

    def run(
        self,
        numbers: Sequence[int],
        began: Callable[[int], None],
        said: Callable[[int, str], None],
        ended: Callable[[int], None],
    ) -> None:
        """Runs points, each in the process that is free next.

        Args:
          numbers: of the points.
          began: called as a point is given to a process.
          said: called with each line of a point's progress.
          ended: called when a point has ended.

        Raises:
          UserError: of a point, when the other processes have saved their rounds.
          PointFailed: a point failed otherwise, or its process was killed.
          RunInterrupted: SIGINT or SIGTERM, when all have saved their rounds.
        """
        waiting, idle = list(numbers), list(self._links)
        busy: dict[Any, int] = {}
        failure: Optional[BaseException] = None
        with self._passed_on():
            while busy or (waiting and failure is None and self._signal is None):
                while waiting and idle and failure is None and self._signal is None:
                    link, number = idle.pop(0), waiting.pop(0)
                    began(number)
                    link.send(number)
                    busy[link] = number
                for link in connection.wait(list(busy), timeout=0.5):
                    kind, value = _received(link)
                    if kind == "said":
                        said(busy[link], value)
                        continue
                    number = busy.pop(link)
                    if kind == "ended":
                        idle.append(link)
                        ended(number)
                    elif kind != "interrupted" and failure is None:
                        failure = self._failure(kind, value, number)
                        self._send(signal.SIGTERM)
        if self._signal is not None:
            raise RunInterrupted(self._signal)
        if failure is not None:
            raise failure

    def _failure(self, kind: str, value: str, number: int) -> BaseException:
        if kind == "refused":
            return UserError(value)
        return PointFailed(f"point {self._names[number]}: {value}")

    @contextlib.contextmanager
    def _passed_on(self) -> Iterator[None]:
        """Passes SIGINT and SIGTERM on to the processes, which save their rounds."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, _: Any) -> None:
            if self._signal is None:
                self._signal = number
                self._send(signal.SIGTERM)

        previous = {
            number: signal.signal(number, handle)
            for number in (signal.SIGINT, signal.SIGTERM)
            if signal.getsignal(number) not in (None, signal.SIG_IGN)
        }
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _send(self, number: int) -> None:
        for process in self._links.values():
            if process.is_alive():
                os.kill(process.pid, number)

    def _end(self, number: int) -> None:
        for link in self._links:
            link.close()
        self._send(number)
        for process in self._links.values():
            process.join(_ENDING_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()


def _received(link: Any) -> tuple[str, str]:
    try:
        kind, value = link.recv()
        return str(kind), str(value)
    except (EOFError, OSError):
        return "killed", "its process was killed"


class _Lines(io.TextIOBase):
    """A stream that gives each whole line to a function. No terminal."""

    def __init__(self, say: Callable[[str], None]):
        super().__init__()
        self._say, self._rest = say, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._say(line)
        return len(text)


def _serve(link: Any, others: Sequence[Any], run_point: RunPoint, parent: int) -> None:
    """Runs points in a process of its own until the link is closed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # A terminal sends Ctrl-C to all of a group; this process hears of it from its
    # parent, once.
    os.setpgrp()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda given, _: os._exit(128 + given))
    for other in others:
        other.close()
    while os.getppid() == parent:
        try:
            number = link.recv()
        except EOFError:
            return
        stream: Any = _Lines(lambda line: link.send(("said", line)))
        try:
            run_point(number, stream)
        except UserError as error:
            link.send(("refused", error.for_command_line))
        except (RunInterrupted, KeyboardInterrupt):
            link.send(("interrupted", ""))
            return
        except BaseException as error:  # noqa: BLE001, this process tells and stays.
            what = f"{type(error).__name__}: {error}"
            link.send(("failed", f"{what}\n{traceback.format_exc()}"))
        else:
            link.send(("ended", ""))
