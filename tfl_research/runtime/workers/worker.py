"""TFF's C++ runtime in a child process, which always ends with this process."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import weakref
from typing import Any, Optional

import tensorflow_federated as tff

import tfl_research
from tfl_research import _tff_compat
from tfl_research.private_worker import door, keeper
from tfl_research.runtime.workers.connection import ANSWER_SECONDS, Connection

_tff_compat.silence_idle_worker()
_START_SECONDS = 60.0
_ASK_SECONDS = 0.5
_END_SECONDS = 5.0
# Imports nothing from the caller's folder or from paths in the environment.
_KEEPER = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from tfl_research.private_worker import keeper; sys.exit(keeper.main())"
)
# The kernel's parent-death signal follows the thread that started the child, so
# children are started by a thread that lives as long as the interpreter.
_starter = concurrent.futures.ThreadPoolExecutor(max_workers=1)


class NotIsolated(RuntimeError):
    """TFF's worker would listen on all interfaces, which the caller did not allow."""


class Worker:
    """TFF's C++ runtime as a child process, reached by this user only.

    The worker ends when `close` is called, when the object is collected, when the
    interpreter exits, and when this process is killed. It does not use the standard
    input and output of this process. Its output goes to an unnamed file, and an error
    message shows the end of the file.

    TFF's runtime listens on all interfaces, without authentication. So it runs in a
    network namespace of its own, and a small process (`private_worker`) relays calls to
    it. The small process listens on a Unix-domain socket of this user, or on a port of
    127.0.0.1 that refuses other users.

    Attributes:
      port: the port of 127.0.0.1; None for a Unix-domain socket.

    Args:
      port: a port of 127.0.0.1, 0 for any free port; None for a Unix-domain socket.
      answer_seconds: a worker that has not answered for so many seconds is lost.
      open_port: whether TFF's runtime may listen on all interfaces if the kernel allows
        no network namespace.
    """

    def __init__(
        self,
        port: Optional[int] = None,
        *,
        answer_seconds: float = ANSWER_SECONDS,
        open_port: bool = False,
    ) -> None:
        self.port = port
        self._answer_seconds = answer_seconds
        self._open_port = open_port
        self._keeper: Optional[subprocess.Popen[str]] = None
        self._connection: Optional[Connection] = None
        self._log: Any = None
        self._finalizer: Optional[weakref.finalize] = None
        self._pid: Optional[int] = None

    @property
    def pid(self) -> Optional[int]:
        """The process id of TFF's runtime; None if it does not run."""
        return self._pid

    @property
    def address(self) -> Optional[str]:
        """The address that gRPC connects to; None if the worker does not run."""
        return None if self._connection is None else self._connection.address

    @property
    def ended(self) -> bool:
        """Whether the worker was started and has ended."""
        return self._keeper is not None and self._keeper.poll() is not None

    def stub(self) -> tff.framework.RemoteExecutorGrpcStub:
        """Starts the worker if it does not run, and connects to it.

        Raises:
          NotIsolated: the kernel allows no network namespace.
          RuntimeError: the worker ended, or was not ready within a minute.
        """
        if self._keeper is None:
            self._start()
        elif self.ended:
            raise RuntimeError(self.failure())
        connection = self._connection
        if connection is None:
            raise RuntimeError(self.failure())
        return connection.stub

    def _start(self) -> None:
        try:
            self._start_kept(open_port=False)
        except NotIsolated:
            if not self._open_port:
                raise
            self._start_kept(open_port=True)

    def _start_kept(self, *, open_port: bool) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        root = pathlib.Path(tfl_research.__file__).resolve().parents[1]
        listen = door.UNIX if self.port is None else f"127.0.0.1:{self.port}"
        process = _starter.submit(
            subprocess.Popen,
            [
                *(sys.executable, "-I", "-c", _KEEPER, str(root)),
                json.dumps(
                    {
                        "binary": _tff_compat.worker_binary(),
                        "listen": listen,
                        "parent": os.getpid(),
                        "isolated": not open_port,
                    }
                ),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            # A terminal's Ctrl-C is for this process, which then ends the worker.
            start_new_session=True,
        ).result()
        self._keeper = process
        self._finalizer = weakref.finalize(self, _end, process)
        said = json.loads((process.stdout.readline() if process.stdout else "") or "{}")
        if "address" not in said:
            code, message = process.wait(), said.get("error") or self.failure()
            self.close()
            if code == keeper.NOT_ISOLATED:
                raise NotIsolated(
                    f"the kernel allows no network namespace ({message}), so TFF's "
                    "worker would listen on all interfaces of this machine, and "
                    "anybody who reaches its port could run programs as you"
                )
            raise RuntimeError(f"TFF's worker did not start: {message}")
        self._pid = said["pid"]
        self._connection = Connection(said["address"], self._answer_seconds)
        deadline = time.monotonic() + _START_SECONDS
        while not self._connection.answers(_ASK_SECONDS):
            if process.poll() is not None or time.monotonic() > deadline:
                message = self.failure()
                self.close()
                raise RuntimeError(message)

    def failure(self) -> str:
        """The message for a worker that ended or does not answer."""
        code = None if self._keeper is None else self._keeper.poll()
        if code is None:
            state = f"does not answer within {self._answer_seconds:g} s"
        else:
            state = f"ended with code {128 - code if code > 128 else code}"
        tail = ""
        if self._log is not None:
            with contextlib.suppress(OSError):
                size = self._log.seek(0, os.SEEK_END)
                self._log.seek(max(0, size - 500))
                tail = self._log.read().decode(errors="replace").strip()
        return f"TFF's worker {state}" + (f"; it last printed: {tail}" if tail else "")

    def close(self) -> None:
        """Ends the worker and waits for its end."""
        if self._finalizer is not None:
            self._finalizer()
            self._finalizer = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._log is not None:
            self._log.close()
            self._log = None
        self._keeper = self._pid = None


def _end(process: subprocess.Popen[str]) -> None:
    """Ends the keeper, which ends the worker and removes its socket."""
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
