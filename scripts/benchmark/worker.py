"""A contender's process: builds, runs a first round, then rounds on demand."""

from __future__ import annotations

import sys

from benchmark import protocol
from tfl_research.cli import starting

# The runtimes of the command lines, and what their times are compared with.
_PREPARED = (
    *("in_process", "in_process_gpu", "tff_runtime"),
    *("roofline", "products"),
)


def main(contender: str, workload: str) -> None:
    if contender in _PREPARED:
        # As the command lines do.
        starting.prepare()
    answers = protocol.take_stdout()
    from benchmark import contenders, workloads

    running = contenders.CONTENDERS[contender](workloads.get(workload))
    for number in protocol.rounds(answers, weights=running.weights):
        running.run(number)


if __name__ == "__main__":
    main(*sys.argv[1:])
