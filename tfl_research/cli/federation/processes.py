"""Processes that a command starts, and ends by their ids."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Optional

from tfl_research.errors import UserError

_PR_SET_PDEATHSIG = 1
# A site may still have to write its ledger, and TensorFlow takes a moment to end.
_SECONDS_TO_END = 20.0
_LINES_SHOWN = 5


class Started:
    """A process in the background whose lines go to a log.

    The process gets SIGTERM when its parent process ends, even if the parent is killed.

    Attributes:
      name: the name of the process, for messages.
      log: the file with the lines of the process.

    Args:
      name, log: the name and the log of the process.
      arguments: program and arguments.
      folder: the working folder of the process.
      environment: variables in addition to the variables of this process.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        folder: pathlib.Path,
        log: pathlib.Path,
        environment: Optional[Mapping[str, str]] = None,
    ):
        self.name = name
        self.log = log
        parent = os.getpid()
        libc = ctypes.CDLL(None)

        def end_with_parent() -> None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

        with log.open("ab") as output:
            self._began = output.tell()
            self._process = subprocess.Popen(
                list(arguments),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                # Ctrl-C is for the experiment; sites are ended after it.
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is still running."""
        return self._process.poll() is None

    def last_lines(self) -> str:
        """Returns the last lines that the process printed, joined to one line."""
        with self.log.open("rb") as file:
            file.seek(self._began)
            lines = file.read().decode(errors="replace").splitlines()
        return " / ".join(line for line in lines[-_LINES_SHOWN:] if line.strip())

    def wait_until(self, path: pathlib.Path, seconds: float) -> None:
        """Waits until the process has made a file or a socket.

        Raises:
          UserError: the process ended, or the time is over.
        """
        end = time.monotonic() + seconds
        while not path.exists():
            if not self.is_running:
                raise UserError(
                    f"{self.name} ended before it made {path.name}: "
                    f"{self.last_lines() or f'see {self.log}'}"
                )
            if time.monotonic() > end:
                raise UserError(
                    f"{self.name} did not make {path} in {seconds:g} s; see {self.log}"
                )
            time.sleep(0.05)

    def end(self) -> None:
        """Ends the process: by SIGTERM, and by SIGKILL if that takes too long."""
        if self.is_running:
            self._process.terminate()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def ending(processes: Sequence[Started]) -> Iterator[None]:
    """Ends all processes at the end of the block, at the same time."""
    try:
        yield
    finally:
        for process in processes:
            if process.is_running:
                os.kill(process.pid, signal.SIGTERM)
        for process in processes:
            process.end()
