"""What a program does before its imports: huge pages, and an end at signals.

A program of this package begins with:

    from tfl_research.cli import starting

    starting.begin()

This module imports next to nothing, so that there is nothing before it.
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


def begin() -> None:
    """Prepares this process; the first call of a program."""
    use_huge_pages()
    end_on_signals()


def use_huge_pages() -> None:
    """Starts this program again, in the same process, with memory in huge pages.

    A training step of a large model reads and writes hundreds of megabytes. In pages of
    4 KiB, the processor spends a large part of the step on finding their addresses: up
    to a quarter in a virtual machine. glibc asks the kernel for pages of 2 MiB if
    GLIBC_TUNABLES says so when the process starts. Results do not change.

    Nothing happens if the variable holds a value for huge pages already, also 0, or if
    a debugger or profiler watches the program. A glibc before 2.35 ignores the value.
    """
    environment = with_huge_pages(os.environ)
    if environment == os.environ or sys.gettrace() or sys.getprofile():
        return
    if not sys.executable:
        # Started under a name that is no program's: Python cannot be found again.
        return
    with contextlib.suppress(OSError):
        with open("/proc/self/cmdline", "rb") as file:
            command = file.read().split(b"\0")[:-1]
        # By its full path: Python finds its packages by the name of the command.
        os.execve(
            sys.executable,
            [os.fsencode(sys.executable), *command[1:]],
            environment,
        )


def with_huge_pages(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of programs in huge pages; equal if it says on or off already."""
    given = environment.get(_TUNABLES, "")
    if f"{_HUGE_PAGES}=" in given:
        return dict(environment)
    tunables = ":".join(filter(None, (given, f"{_HUGE_PAGES}=1")))
    return {**environment, _TUNABLES: tunables}


def end_on_signals() -> None:
    """Ends this process at SIGINT and SIGTERM, with one line and code 130 or 143.

    Python raises KeyboardInterrupt wherever the program happens to be. In the import of
    TensorFlow, and in other foreign code, that can be in a place that drops exceptions:
    the program would go on as if nothing had been said.

    Nothing is raised and nothing is cleaned up: files are whole at any moment, because
    runs survive kill -9; and processes that this process has started end together with
    it. Rounds handle signals by themselves, and save what is completed.

    A signal that is ignored stays so, as Ctrl-C in the background jobs of a shell.
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
