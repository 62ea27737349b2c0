"""Rounds on 1, 2 and 4 workers of this machine, and a model of more on a network.

A round of n clients on W workers, in P parts, takes

    T = d0 + P dp + n dc  +  w0 + ceil(n / W) wc max(1, W / cores)
        +  ceil(P / W) k 2 L  +  (P (s0 + R) + n sc) / B

P is W, or more if a part would have too many clients. The first three terms are the
driver's, which prepares, writes, reads and merges one part after another; the next two
are the slowest worker's; then come k calls in a row over a latency L, and all bytes
over the driver's link of B bytes a second. d0, dp, dc are from the driver's CPU time on
one worker and on most, w0 and wc from rounds of all and of half of the clients on one
worker, k from rounds with a latency, and s0, sc, R from counted bytes.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from benchmark import remote_rounds
from benchmark.contender import ContenderFailed, last_error

WORKERS = (1, 2, 4)
WAYS = ("shipped", "read")
# Networks that rounds of many workers are predicted for: seconds one way, bytes a
# second of the driver's link.
NETWORKS = {
    "10 Gbit/s, 0.1 ms": (0.0001, 1.25e9),
    "1 Gbit/s, 0.5 ms": (0.0005, 1.25e8),
    "100 Mbit/s, 20 ms": (0.020, 1.25e7),
}
MANY = 100
_ROUNDS = 10
_PATIENCE_SECONDS = 1800.0


@dataclasses.dataclass(frozen=True)
class Model:
    """Seconds of a round by the number of workers; see the module.

    Attributes:
      fixed, per_part, per_client: d0, dp, dc, seconds of the driver.
      worker_fixed, worker_per_client: w0, wc, seconds of a worker.
      turns: k, calls in a row.
      sent_per_part, sent_per_client, received: s0, sc, R, bytes.
      most_clients: of a part; None for any number.
    """

    fixed: float
    per_part: float
    per_client: float
    worker_fixed: float
    worker_per_client: float
    turns: float
    sent_per_part: float
    sent_per_client: float
    received: float
    most_clients: Optional[int] = None

    def seconds(
        self,
        clients: int,
        workers: int,
        latency: float = 0.0,
        bandwidth: float = math.inf,
        cores: float = math.inf,
    ) -> float:
        """Predicts a round.

        Args:
          clients: of the cohort.
          workers: at most as many as clients are used.
          latency: seconds one way.
          bandwidth: bytes a second of the driver's link.
          cores: that the workers share; infinite for a core each.
        """
        used = min(workers, clients)
        parts = parts_of(clients, used, self.most_clients)
        driver = self.fixed + parts * self.per_part + clients * self.per_client
        each = math.ceil(clients / used) * self.worker_per_client
        worker = self.worker_fixed + each * max(1.0, used / cores)
        moved = parts * (self.sent_per_part + self.received)
        moved += clients * self.sent_per_client
        calls = math.ceil(parts / used) * self.turns
        return driver + worker + 2 * calls * latency + moved / bandwidth


def parts_of(clients: int, workers: int, most: Optional[int]) -> int:
    """The number of parts of a cohort, as `chunks.divide` divides it."""
    if most is None or clients <= most * workers:
        return min(workers, clients)
    return math.ceil(clients / most)


def fitted(runs: Mapping[int, Mapping[str, Any]]) -> Model:
    """The model of a workload, from what was measured on each number of workers.

    Args:
      runs: what `remote_rounds.run` gives, by the number of workers: 1 and more.
    """
    one, most = runs[1], max(runs)
    clients, limit = one["clients"], one["most_clients"]
    few = max(1, round(clients / 2))
    parts = {n: parts_of(clients, n, limit) for n in runs}
    halves = parts_of(few, 1, limit)
    whole, half, late = one["direct"], one["half"], one["late"]
    cpu = {n: run["direct"]["driver_cpu_seconds"] for n, run in runs.items()}
    further = parts[most] - parts[1]
    # Where the cohort has as many parts on one worker as on most, what a part costs
    # cannot be told from what its clients cost, and counts for the clients.
    per_part = max(0.0, (cpu[most] - cpu[1]) / further) if further else 0.0
    own = per_part * (parts[1] - halves)
    more = cpu[1] - half["driver_cpu_seconds"] - own
    others = max(1, clients - few)
    per_client = max(0.0, more / others)
    fixed = max(0.0, cpu[1] - clients * per_client - parts[1] * per_part)
    slope = (whole["seconds"] - half["seconds"] - own) / others
    worker_per_client = max(0.0, slope - per_client)
    # The rest of a round on one worker.
    worker_fixed = max(0.0, whole["seconds"] - cpu[1] - clients * worker_per_client)
    # The fastest rounds differ least by what else the machine did.
    delay = late["fastest_seconds"] - whole["fastest_seconds"]
    turns = max(0.0, delay / (2 * remote_rounds.LATENCY * parts[1]))
    sent = {n: n * run["sent_bytes"] for n, run in runs.items()}
    sent_per_part = (sent[most] - sent[1]) / further if further else 0.0
    return Model(
        fixed,
        per_part,
        per_client,
        worker_fixed,
        worker_per_client,
        turns,
        sent_per_part,
        (sent[1] - parts[1] * sent_per_part) / clients,
        one["received_bytes"] / parts[1],
        limit,
    )


def summary(runs: Mapping[int, Mapping[str, Any]], cores: int) -> dict[str, Any]:
    """The figures of a workload and a way to get data, with the model's predictions.

    Args:
      runs: see `fitted`.
      cores: of this machine.
    """
    model = fitted(runs)
    clients = runs[1]["clients"]
    slow = remote_rounds.LATENCY, remote_rounds.BANDWIDTH
    predicted = {
        str(workers): {
            "direct": model.seconds(clients, workers, cores=cores),
            "slow": model.seconds(clients, workers, *slow, cores),
        }
        for workers in runs
    }
    many = {
        name: model.seconds(10 * MANY, MANY, latency, bandwidth)
        for name, (latency, bandwidth) in NETWORKS.items()
    }
    return {
        "workers": {str(workers): run for workers, run in runs.items()},
        "model": dataclasses.asdict(model),
        "predicted_seconds": predicted,
        f"seconds_of_{MANY}_workers_{10 * MANY}_clients": many,
    }


def one_run(
    workload: str, workers: int, how: str, folder: pathlib.Path, rounds: int = _ROUNDS
) -> dict[str, Any]:
    """Runs `remote_rounds` in a process of its own.

    Raises:
      ContenderFailed: it ended without figures, or hangs.
    """
    print(f"scale_out: {workload}, {workers} {how}", file=sys.stderr, flush=True)
    log = folder / f"{workload}_{workers}_{how}.log"
    command = [
        *(sys.executable, "-m", "benchmark.remote_rounds"),
        *(workload, str(workers), how, str(rounds)),
    ]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "TMPDIR": str(folder)},
        )
        try:
            output, _ = process.communicate(timeout=_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise ContenderFailed(
                f"{workload}, {workers} {how}: no answer within "
                f"{_PATIENCE_SECONDS:.0f} s"
            ) from None
        finally:
            # Workers and the network end with it.
            process.kill()
            process.wait()
    if process.returncode or not output.strip():
        reason = last_error(log.read_text(errors="replace"))
        raise ContenderFailed(f"{workload}, {workers} {how}: {reason}")
    found: dict[str, Any] = json.loads(output)
    return found


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The measurements as Markdown, a row per workload, way and number of workers."""
    lines = [
        "",
        "| workload | data | workers | s a round | driver, CPU s | workers, CPU s | "
        "sent to a worker, kB | received, kB | model, s | over a slow network, s | "
        "model, s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for workload, ways in results.items():
        for how in WAYS:
            for workers, run in ways.get(how, {}).get("workers", {}).items():
                direct, told = run["direct"], ways[how]["predicted_seconds"][workers]
                numbers: Sequence[float] = (
                    direct["seconds"],
                    direct["driver_cpu_seconds"],
                    direct["workers_cpu_seconds"],
                )
                cells = [workload, how, workers, *(f"{n:.3f}" for n in numbers)]
                cells += [
                    f"{run[name] / 1000:,.0f}"
                    for name in ("sent_bytes", "received_bytes")
                ]
                cells += [
                    f"{number:.3f}"
                    for number in (
                        told["direct"],
                        run["slow"]["seconds"],
                        told["slow"],
                    )
                ]
                lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        f"| {MANY} workers, {10 * MANY} clients | data | "
        + " | ".join(f"{name}, s" for name in NETWORKS)
        + " |",
        "|---|---|" + "---|" * len(NETWORKS),
    ]
    for workload, ways in results.items():
        for how in WAYS:
            if how in ways:
                many = ways[how][f"seconds_of_{MANY}_workers_{10 * MANY}_clients"]
                cells = [f"{many[name]:.2f}" for name in NETWORKS]
                lines.append(f"| {workload} | {how} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
