"""Rounds of --runtime=remote on workers of this machine; prints a line of JSON.

python -m benchmark.remote_rounds W1 2 read ROUNDS
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, Optional

from benchmark import protocol
from tfl_research.cli import starting

# The network that rounds are predicted for and then measured on.
LATENCY, BANDWIDTH = 0.010, 12.5e6
SLOW: dict[str, Optional[float]] = {"latency": LATENCY, "bandwidth": BANDWIDTH}
# Where the latency alone counts.
LATE: dict[str, Optional[float]] = {"latency": LATENCY, "bandwidth": None}
_FREE: dict[str, Optional[float]] = {"latency": 0.0, "bandwidth": None}
_WARM_ROUNDS = 2


class _Network:
    """The program `slow_network` in front of workers."""

    def __init__(self, targets: list[str]):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmark.slow_network", *targets],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addresses: list[str] = self._answer()

    def _answer(self) -> Any:
        pipe: Any = self._process.stdout
        return json.loads(pipe.readline())

    def ask(self, limits: dict[str, Optional[float]]) -> list[list[int]]:
        """Sets limits; returns the bytes to and from each worker until now."""
        print(json.dumps(limits), file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def _rounds(
    engine: Any, workload: Any, count: int, share: float, pids: list[int]
) -> dict[str, float]:
    """Medians over rounds, after warm rounds.

    Args:
      engine: of the workload's process.
      workload: a `Workload`.
      count: of rounds that count.
      share: of the cohort's clients that take part.
      pids: of the workers.
    """
    state = engine.initialize()
    measured: dict[str, list[float]] = {"seconds": [], "driver": [], "workers": []}
    for number in range(_WARM_ROUNDS + count):
        before = sum(map(protocol.cpu_seconds, pids))
        begin, cpu = time.perf_counter(), time.process_time()
        cohort = workload.rounds_cohort(number)
        cohort = cohort.select(range(max(1, round(share * len(cohort)))))
        state, metrics = engine.next(state, cohort)
        float(metrics["train"]["loss"])
        if number >= _WARM_ROUNDS:
            measured["seconds"].append(time.perf_counter() - begin)
            measured["driver"].append(time.process_time() - cpu)
            measured["workers"].append(sum(map(protocol.cpu_seconds, pids)) - before)
    return {
        "seconds": statistics.median(measured["seconds"]),
        "fastest_seconds": min(measured["seconds"]),
        "driver_cpu_seconds": statistics.median(measured["driver"]),
        # Counted in hundredths of a second: a mean says more than a median.
        "workers_cpu_seconds": statistics.mean(measured["workers"]),
    }


def run(workload_name: str, workers: int, how: str, count: int) -> dict[str, Any]:
    """Measures a workload on so many workers.

    Args:
      workload_name: of `workloads.WORKLOADS`.
      workers: how many to start.
      how: "shipped", or "read" for examples that workers read from a folder.
      count: of rounds for each figure.

    Returns:
      `direct` (without a network), `half` (half of the clients), `late` and `slow` (see
      `LATE` and `SLOW`): each with the medians of `_rounds`. `sent_bytes` and
      `received_bytes`: of a worker in a round. `mode`, `clients`; `most_clients`: of a
      part, None if the whole cohort fits into a part.

    Raises:
      ValueError: another `how`.
    """
    if how not in ("shipped", "read"):
        raise ValueError(f"how must be shipped or read, got {how!r}")
    from benchmark import contenders, workloads
    from tfl_research import runtime
    from tfl_research.runtime.compiler import chunks

    workload = workloads.get(workload_name)
    process = contenders._process(workload)
    result: dict[str, Any] = {"clients": len(workload.cohort)}
    groups = chunks.divide(workload.rounds_cohort(0)).groups
    result["most_clients"] = len(groups[0]) if len(groups) > 1 else None
    with contextlib.ExitStack() as stack:
        started = [runtime.Worker(port=0) for _ in range(workers)]
        addresses, pids = [], []
        for worker in started:
            stack.callback(worker.close)
            worker.stub()
            addresses.append(str(worker.address))
            pids.append(int(worker.pid or 0))
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        data: dict[str, Any] = {}
        if how == "read":
            data = {"data_folder": folder, "clients": workload.task.train}
        with runtime.remote(process, addresses, **data) as engine:
            result["direct"] = _rounds(engine, workload, count, 1.0, pids)
            mode = engine.mode
            if workers == 1:
                result["half"] = _rounds(engine, workload, count, 0.5, pids)
        result["mode"] = str(mode)
        network = _Network(addresses)
        stack.callback(network.close)
        with runtime.remote(process, network.addresses, mode=mode, **data) as engine:
            # Sends the computations.
            _rounds(engine, workload, 1, 1.0, pids)
            few = max(1, count // 2)
            network.ask(_FREE)
            _rounds(engine, workload, few, 1.0, pids)
            counts = network.ask(LATE)
            turns = (few + _WARM_ROUNDS) * workers
            result["sent_bytes"] = sum(sent for sent, _ in counts) / turns
            result["received_bytes"] = sum(got for _, got in counts) / turns
            if workers == 1:
                result["late"] = _rounds(engine, workload, few, 1.0, pids)
            network.ask(SLOW)
            result["slow"] = _rounds(engine, workload, few, 1.0, pids)
            network.ask(_FREE)
    return result


def main(workload: str, workers: str, how: str, count: str) -> None:
    answers = protocol.take_stdout()
    print(
        json.dumps(run(workload, int(workers), how, int(count))),
        file=answers,
        flush=True,
    )


if __name__ == "__main__":
    starting.prepare()
    main(*sys.argv[1:])
