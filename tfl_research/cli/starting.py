"""Prepares a program before its imports: memory, threads, and the end at signals.

A program of this package begins with:

    from tfl_research.cli import starting

    starting.begin()

This module imports almost nothing, so that `begin` comes before all other imports.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Optional

_LINE = b"interrupted\n"
# Read by glibc when a process starts, as NAME=VALUE:NAME=VALUE.
_TUNABLES = "GLIBC_TUNABLES"
_HUGE_PAGES = "glibc.malloc.hugetlb"
# OpenBLAS reads this variable when NumPy is imported. An idle thread waits actively for
# 2 to the power of this number of cycles. The smallest number is 4.
_ACTIVE_WAITING = "OPENBLAS_THREAD_TIMEOUT"


def begin() -> None:
    """Prepares this process; must be the first call of a program."""
    prepare()
    end_on_signals()


def prepare() -> None:
    """Lets idle threads of NumPy sleep, and puts this program into huge pages.

    Results do not change.

    Idle threads: OpenBLAS, which NumPy calls for products of matrices, lets its threads
    wait actively after each product. This takes CPU time from other threads and
    processes. For a report's pictures, which multiply matrices of 3 x 3, the waiting
    took as much CPU time as the drawing.

    Huge pages: a training step of a large model reads and writes hundreds of megabytes.
    In pages of 4 KiB, the processor spends a large part of the step on finding their
    addresses: up to a quarter in a virtual machine. glibc asks the kernel for pages of
    2 MiB if GLIBC_TUNABLES says so when the process starts. So this program starts
    again, in the same process.

    A variable that already has a value is not changed, even if GLIBC_TUNABLES turns
    huge pages off. A program that a debugger or profiler watches does not start again.
    A glibc before 2.35 ignores the variable.
    """
    environment = prepared(os.environ)
    starts_again = environment.get(_TUNABLES) != os.environ.get(_TUNABLES)
    os.environ[_ACTIVE_WAITING] = environment[_ACTIVE_WAITING]
    if not starts_again or sys.gettrace() or sys.getprofile():
        return
    if not sys.executable:
        # Python does not know its own path, so the program cannot be started again.
        return
    with contextlib.suppress(OSError):
        with open("/proc/self/cmdline", "rb") as file:
            command = file.read().split(b"\0")[:-1]
        # The full path is needed: Python finds its packages by the command's name.
        os.execve(
            sys.executable,
            [os.fsencode(sys.executable), *command[1:]],
            environment,
        )


def prepared(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns an environment in which `prepare` has nothing to do."""
    given = environment.get(_TUNABLES, "")
    tunables = given
    if f"{_HUGE_PAGES}=" not in given:
        tunables = ":".join(filter(None, (given, f"{_HUGE_PAGES}=1")))
    return {_ACTIVE_WAITING: "4", **environment, _TUNABLES: tunables}


def end_on_signals() -> None:
    """Ends this process at SIGINT and SIGTERM, with one line and code 130 or 143.

    Python raises KeyboardInterrupt at any point of the program. In the import of
    TensorFlow and in other foreign code, this point can be in code that drops
    exceptions. Then the program would continue as if there had been no signal.

    So no exception is raised and nothing is cleaned up. Files are whole at any moment,
    because runs survive kill -9. Processes that this process has started end together
    with it. Rounds handle signals themselves, and save completed rounds.

    A signal that is ignored stays ignored, as Ctrl-C in a shell's background jobs.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)
    # The scripts let signals wait until now.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))


def _end(number: int, _: Optional[FrameType]) -> None:
    # Standard output may be in the middle of a line, or closed.
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        os.write(2, _LINE)
    os._exit(128 + number)
