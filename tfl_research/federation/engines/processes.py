"""Starts an engine's long-lived processes in their own sessions, and ends them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import secrets
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from tfl_research import errors

_END_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1
_MARK = "TFL_RESEARCH_PROCESS"


class Process:
    """A process and all processes that it starts, with its output in a file.

    The process gets SIGTERM when the thread that started it ends for any reason.

    Attributes:
      name: the name of the process in messages.
      log: the file of the output.
      pid: the process id.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: pathlib.Path,
        folder: pathlib.Path,
        environment: Mapping[str, str] | None = None,
    ):
        self.name = name
        self.log = log
        self._mark = secrets.token_hex(16)
        log.parent.mkdir(parents=True, exist_ok=True)
        starter, libc = os.getpid(), ctypes.CDLL(None)

        def end_with_starter() -> None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != starter:
                os._exit(1)

        with open(log, "ab") as output:
            self._process = subprocess.Popen(
                list(command),
                cwd=folder,
                env={
                    **clean_environment(),
                    **(environment or {}),
                    _MARK: self._mark,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_starter,
            )
        self.pid = self._process.pid

    @property
    def runs(self) -> bool:
        """Whether the process itself has not ended."""
        return self._process.poll() is None

    def check(self) -> None:
        """Checks that the process runs.

        Raises:
          UserError: the process has ended; the message has the log's end.
        """
        if not self.runs:
            raise errors.UserError(
                f"{self.name} ended with code {self._process.returncode}: "
                f"{last_lines(self.log)}; the whole log is in {self.log}"
            )

    def wait_for(self, text: str, seconds: float) -> None:
        """Waits until the log has a text.

        Raises:
          UserError: the text does not come in time, or the process has ended.
        """
        until = time.monotonic() + seconds
        while text not in self.log.read_text(encoding="utf-8", errors="replace"):
            self.check()
            if time.monotonic() > until:
                raise errors.UserError(
                    f"{self.name} was not ready after {seconds:.0f} s: "
                    f"{last_lines(self.log)}; the whole log is in {self.log}"
                )
            time.sleep(0.1)

    def family(self) -> list[int]:
        """Returns the ids of the process and of all processes that it has started.

        An engine starts processes in sessions of their own, which outlive the engine if
        it is killed. All of them inherit an environment variable, by which they are
        found.
        """
        mark = f"{_MARK}={self._mark}".encode()
        found = []
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            # A process may end during the search, and other users' cannot be read.
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return found

    def kill(self) -> None:
        """Kills the process and all that it has started, at once."""
        while self._signal(signal.SIGKILL):
            time.sleep(0.05)
        self._process.wait()

    def end(self) -> None:
        """Ends the process and all that it has started, by force after ten seconds."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        self.kill()

    def _signal(self, number: int) -> bool:
        """Sends a signal to all of these processes; returns whether there were any."""
        self._process.poll()
        family = self.family()
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return bool(family)


class Processes:
    """Several processes that end together, the last one first."""

    def __init__(self) -> None:
        self._all: list[Process] = []

    def add(self, process: Process) -> Process:
        """Adds a process and returns it."""
        self._all.append(process)
        return process

    def check(self) -> None:
        """Checks that all processes run.

        Raises:
          UserError: a process has ended.
        """
        for process in self._all:
            process.check()

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._all:
            self._all.pop().end()


def run(
    name: str,
    command: Sequence[str],
    *,
    folder: pathlib.Path,
    environment: Mapping[str, str] | None = None,
    seconds: float = 120.0,
) -> str:
    """Runs a command to its end and returns its standard output.

    Raises:
      UserError: the command failed or took too long; the message has its last output.
    """
    try:
        done = subprocess.run(
            list(command),
            cwd=folder,
            env={**clean_environment(), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise errors.UserError(f"{name} did not end within {seconds:.0f} s") from error
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        raise errors.UserError(f"{name} failed: {' / '.join(lines[-4:])}")
    return done.stdout


def clean_environment() -> dict[str, str]:
    """Returns the environment variables without Python's, which would mix packages."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") and name != "VIRTUAL_ENV"
    }


def last_lines(log: pathlib.Path, count: int = 4) -> str:
    """The end of a log in one line."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return " / ".join([line.strip() for line in lines if line.strip()][-count:])
