"""A contender's process: builds, runs a first round, then rounds on demand."""

from __future__ import annotations

import sys

from benchmark import protocol


def main(contender: str, workload: str) -> None:
    answers = protocol.take_stdout()
    from benchmark import contenders, workloads

    running = contenders.CONTENDERS[contender](workloads.get(workload))
    for number in protocol.rounds(answers, weights=running.weights):
        running.run(number)


if __name__ == "__main__":
    main(*sys.argv[1:])
