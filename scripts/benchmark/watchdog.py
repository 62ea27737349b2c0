"""Ends what a program of this folder started, when that program has ended in any way.

Its standard input is a pipe that the program holds, so that it reads the end of the
pipe even where the program got SIGKILL. Needs Python alone.
"""

from __future__ import annotations

import shutil
import sys
import time

from benchmark import protocol

# A process that is just starting has no mark of its own yet.
_STARTING_SECONDS = 0.2


def main(mark: str, folder: str) -> None:
    """Waits for the program's end; then kills processes and removes files.

    Args:
      mark: of the processes, in `protocol.DRIVER_MARK`.
      folder: the program's temporary files.
    """
    sys.stdin.buffer.read()
    protocol.kill_marked(mark, protocol.DRIVER_MARK)
    time.sleep(_STARTING_SECONDS)
    protocol.kill_marked(mark, protocol.DRIVER_MARK)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
