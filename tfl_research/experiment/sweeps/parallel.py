"""Runs points of a sweep in several processes, which share only the sweep's folder.

The processes are forked from this process before TensorFlow is imported. So points need
not be sent, and may hold a user's own arrays, functions and models. Each process runs
one point after another, and compiles programs once that its points share. All processes
end when this process ends for any reason.
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

# Memory of a process that trains a small model; most of it is TensorFlow. Data and a
# large model need more.
PROCESS_BYTES = 1_200_000_000
_PR_SET_PDEATHSIG = 1
_ENDING_SECONDS = 60.0
# Runs a point, writing its progress to the stream.
RunPoint = Callable[[int, TextIO], None]


def free_bytes() -> Optional[int]:
    """Returns the bytes that new processes may take; None if Linux does not say."""
    found = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = pathlib.Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        found.append(1024 * int(line.split()[1]))
    with contextlib.suppress(OSError, ValueError):
        # The limit of a container; "max" means no limit.
        group = pathlib.Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
        found.append(max(0, most - used))
    return min(found, default=None)


def processes_for(asked: int, points: int, out: TextIO) -> int:
    """Returns how many processes run the points; prints a line if memory allows fewer.

    Args:
      asked: the number of processes that the user asked for, at least 1.
      points: the number of points that are left to run.
      out: the stream for the line.
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
    """Refuses to fork this process if its threads would be lost.

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
    """A point failed in its process with an unexpected error."""


class Workers:
    """Processes that wait for points; make them before the points are checked.

    Use the object as a context; at its end, no process is left.
    """

    def __init__(self, count: int, names: Sequence[str], run_point: RunPoint):
        """Forks this process.

        Args:
          count: the number of processes.
          names: the names of the points, by their numbers.
          run_point: runs the point with a number.

        Raises:
          SettingError: TensorFlow is imported.
        """
        check_divisible()
        context = multiprocessing.get_context("fork")
        self._names = names
        self._signal: Optional[int] = None
        self._links: dict[Any, Any] = {}
        # Otherwise each process would write the buffered output.
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
          numbers: the numbers of the points.
          began: is called when a point is given to a process.
          said: is called with each line of a point's progress.
          ended: is called when a point has ended.

        Raises:
          UserError: a point raised it; the other processes have saved their rounds.
          PointFailed: a point failed with another error, or its process was killed.
          RunInterrupted: SIGINT or SIGTERM; all processes have saved their rounds.
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
    """A stream, not a terminal, that gives each whole line to a function."""

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
    """Runs points in this process until the link is closed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # A terminal sends Ctrl-C to a whole process group. In its own group, this process
    # gets the signal only once, from its parent.
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
