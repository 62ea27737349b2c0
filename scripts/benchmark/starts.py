"""From a command to the end of its first round: whole processes, warm and cold.

Each process is measured from outside and killed after its first round. Warm starts
share a cache folder, which one further start has filled; each cold start has an empty
one.
"""

from __future__ import annotations

import os
import pathlib
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmark.contender import ContenderFailed, last_error

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The rounds of the main job, as its command line prints them.
_FIRST_ROUND = re.compile(r"round 1/")
_TICKS = os.sysconf("SC_CLK_TCK")


def _bench(workload: str) -> Callable[[pathlib.Path], list[str]]:
    return lambda _: [sys.executable, "-m", "benchmark.worker", "in_process", workload]


def _main_job(folder: pathlib.Path) -> list[str]:
    """The main job of scripts/run, in a folder of its own."""
    experiments = ROOT / "experiments"
    return [
        sys.executable,
        str(experiments / "dp_fed_avg.py"),
        f"--flagfile={experiments / 'configs' / 'shakespeare_dp.flags'}",
        "--print_every=1",
        f"--output_dir={folder / 'run'}",
    ]


# Commands by name, and the line that each prints when its first round is done.
STARTS: dict[str, tuple[Callable[[pathlib.Path], list[str]], re.Pattern[str]]] = {
    "W1": (_bench("W1"), re.compile("start_seconds")),
    "W3": (_bench("W3"), re.compile("start_seconds")),
    "shakespeare": (_main_job, _FIRST_ROUND),
}


def _cpu_seconds(pid: int) -> float:
    """CPU seconds of a process, its threads, and its children that have ended."""
    text = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    # The name, in brackets, may hold spaces; user, system, children's user and system.
    fields = text.rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def start(name: str, folder: pathlib.Path, cache: pathlib.Path) -> dict[str, float]:
    """Starts a command; returns `seconds` and `cpu_seconds` of its start.

    Args:
      name: of `STARTS`.
      folder: an empty folder for what the command writes.
      cache: the folder that the command takes for the user's cache.

    Raises:
      ContenderFailed: the command ended before the end of its first round.
    """
    command, awaited = STARTS[name]
    log = folder / "log"
    with log.open("wb") as errors:
        begin = time.monotonic()
        process = subprocess.Popen(
            command(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env={**os.environ, "XDG_CACHE_HOME": str(cache), "TMPDIR": str(folder)},
        )
    try:
        pipe: Any = process.stdout
        for line in pipe:
            if awaited.search(line):
                seconds = time.monotonic() - begin
                return {"seconds": seconds, "cpu_seconds": _cpu_seconds(process.pid)}
        raise ContenderFailed(f"{name}: {last_error(log.read_text(errors='replace'))}")
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def measure(
    names: Sequence[str], count: int, folder: pathlib.Path
) -> dict[str, dict[str, Any]]:
    """Medians of warm and of cold starts, by command.

    Args:
      names: of `STARTS`.
      count: number of starts of each kind.
      folder: an empty folder.

    Returns:
      For each name: for `warm` and `cold` the medians `seconds` and `cpu_seconds`, and
      `all`, the single starts.

    Raises:
      ContenderFailed: see `start`.
    """

    def one(name: str, kind: str, number: int, cache: str) -> dict[str, float]:
        print(f"start: {name}, {kind} {number}", file=sys.stderr, flush=True)
        own = folder / f"{name}_{kind}_{number}"
        own.mkdir()
        return start(name, own, folder / cache)

    results: dict[str, dict[str, Any]] = {}
    for name in names:
        one(name, "filling", 0, f"{name}_cache")
        runs: dict[str, list[dict[str, float]]] = {"warm": [], "cold": []}
        for number in range(count):
            runs["warm"].append(one(name, "warm", number, f"{name}_cache"))
            runs["cold"].append(one(name, "cold", number, f"{name}_empty_{number}"))
        results[name] = {
            kind: {
                **{
                    key: statistics.median(each[key] for each in starts)
                    for key in ("seconds", "cpu_seconds")
                },
                "all": starts,
            }
            for kind, starts in runs.items()
        }
    return results


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The medians as a Markdown table, a row per command."""
    lines = [
        "",
        "| start to the end of round one | warm, s | warm, CPU s "
        "| cold, s | cold, CPU s |",
        "|---|---|---|---|---|",
    ]
    for name, kinds in results.items():
        cells = [
            f"{kinds[kind][key]:.2f}"
            for kind in ("warm", "cold")
            for key in ("seconds", "cpu_seconds")
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
