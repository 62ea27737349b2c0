"""TFF's C++ runtime in a child process, which always ends with this process."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import os
import signal
import subprocess
import tempfile
import time
import weakref
from collections.abc import Callable
from typing import Any, Optional

import portpicker
import tensorflow_federated as tff

from tfl_research import _tff_compat
from tfl_research.runtime.workers.connection import Connection

_tff_compat.silence_idle_worker()
_START_SECONDS = 60.0
_ASK_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
# The kernel's parent-death signal follows the thread that started the child, so
# children are started by a thread that lives as long as the interpreter.
_starter = concurrent.futures.ThreadPoolExecutor(max_workers=1)


def _bind_to_parent(parent: int) -> None:
    """Runs in the child before it becomes the worker."""
    # A terminal's Ctrl-C is for the parent, which then ends the worker itself.
    os.setsid()
    # The kernel ends the worker with its parent, whatever ends that (kill -9 too).
    if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        os._exit(127)
    if os.getppid() != parent:
        os._exit(127)


class Worker:
    """TFF's C++ runtime as a child process, reached over gRPC on this machine.

    The worker ends when `close` is called, when the object is collected, when the
    interpreter exits, and when this process is killed. It does not use the standard
    input and output of this process. Its output goes to an unnamed file, and an error
    message shows the end of the file.

    TFF's runtime listens without authentication. While it runs, every user of this
    machine can connect to it.

    Attributes:
      port: the port of the worker; by default an unused port.
    """

    def __init__(self, port: Optional[int] = None) -> None:
        self.port = port
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._connection: Optional[Connection] = None
        self._log: Any = None
        self._finalizer: Optional[weakref.finalize] = None

    @property
    def pid(self) -> Optional[int]:
        """The worker's process id; None if it does not run."""
        return None if self._process is None else self._process.pid

    @property
    def address(self) -> Optional[str]:
        """HOST:PORT; None if the worker does not run."""
        return None if self._connection is None else self._connection.address

    @property
    def ended(self) -> bool:
        """Whether the worker was started and has ended."""
        return self._process is not None and self._process.poll() is not None

    def stub(self) -> tff.framework.RemoteExecutorGrpcStub:
        """Starts the worker if it does not run, and connects to it.

        Raises:
          RuntimeError: the worker ended, or was not ready within a minute.
        """
        if self._process is None:
            self._start()
        elif self.ended:
            raise RuntimeError(self.failure())
        connection = self._connection
        if connection is None:
            raise RuntimeError(self.failure())
        return connection.stub

    def _start(self) -> None:
        port = self.port or portpicker.pick_unused_port()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        parent = os.getpid()
        process = _starter.submit(
            subprocess.Popen,
            [_tff_compat.worker_binary(), f"--port={port}"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            preexec_fn=lambda: _bind_to_parent(parent),
        ).result()
        self._process = process
        self._finalizer = weakref.finalize(self, _end, process)
        self._connection = Connection(f"localhost:{port}")
        deadline = time.monotonic() + _START_SECONDS
        while not self._connection.answers(_ASK_SECONDS):
            if process.poll() is not None or time.monotonic() > deadline:
                message = self.failure()
                self.close()
                raise RuntimeError(message)

    def failure(self) -> str:
        """The message for a worker that ended or does not answer."""
        code = None if self._process is None else self._process.poll()
        state = "does not answer" if code is None else f"ended with code {code}"
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
        self._process = None


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()


def compiled(computation: Any) -> Any:
    """Compiles a computation for TFF's runtime.

    Secure sums become plain sums. TFF's runtime does not execute secure sums, and in a
    simulation one process has the values of all clients.
    """
    return tff.backends.native.desugar_and_transform_to_native(
        tff.backends.test.replace_secure_intrinsics_with_bodies(computation)
    )


def worker_context(
    stub: Callable[[], tff.framework.RemoteExecutorGrpcStub],
    compiler: Callable[[Any], Any] = compiled,
) -> tff.framework.SyncContext:
    """A TFF execution context that runs on a worker.

    Args:
      stub: returns the worker's interface, or raises. It is called at the first use
        and after every failure.
      compiler: compiles a computation for the worker.
    """

    def executor(cardinalities: Any) -> Any:
        cardinalities.setdefault(tff.CLIENTS, 0)
        remote = tff.framework.RemoteExecutor(stub())
        remote.set_cardinalities(cardinalities)
        return remote

    return tff.framework.SyncExecutionContext(
        tff.framework.ResourceManagingExecutorFactory(executor),
        compiler_fn=compiler,
        transform_args=_tff_compat.transform_arguments,
        transform_result=_tff_compat.transform_result,
    )
