"""Starts experiments from one Python that has imported TensorFlow already.

Each start is a process of its own, forked before TensorFlow has done anything. So a
test of many starts and kills does not import TensorFlow for each of them.

As a program: reads one JSON list per line, the arguments of a binary, and answers with
the process' id; `null` waits for the last process and answers with its exit status.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any


class Starter:
    """Starts binaries, all in one environment.

    Args:
      environment: of the processes.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        # As a program, this file leaves the imports of the package to the binaries.
        from tfl_research.cli import starting

        # A binary that has no huge pages starts its process' command again. Here, that
        # command is this file.
        self._parent = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=starting.prepared(environment),
            text=True,
        )

    def _ask(self, question: Any) -> int:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(question) + "\n")
        self._parent.stdin.flush()
        return int(json.loads(self._parent.stdout.readline()))

    def start(self, arguments: Sequence[str]) -> int:
        """Starts a binary, and returns the id of its process.

        Args:
          arguments: the path of the binary and its flags.
        """
        return self._ask(list(arguments))

    def wait(self) -> int:
        """Waits for the process that was started last.

        Returns:
          Its exit status, or minus the number of the signal that ended it.
        """
        return self._ask(None)

    def close(self) -> None:
        """Ends the Python that starts processes."""
        self._parent.communicate()


def _serve() -> None:
    import tensorflow  # noqa: F401
    import tensorflow_federated  # noqa: F401

    child = 0
    for line in sys.stdin:
        arguments = json.loads(line)
        if arguments is None:
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            continue
        child = os.fork()
        if child == 0:
            _run(arguments)
        print(child, flush=True)


def _run(arguments: list[str]) -> None:
    """What `python BINARY FLAGS` does, with no input and no output."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    sys.argv = arguments
    sys.path[0] = os.path.dirname(arguments[0])
    code = 1
    try:
        runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(bool(error.code))
    finally:
        os._exit(code)


if __name__ == "__main__":
    _serve()
