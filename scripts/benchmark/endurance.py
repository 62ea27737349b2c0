"""Memory of the in-process runtime: by cohort, by rule, and over many rounds."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import statistics
import sys
from typing import Any

from benchmark.contender import Contender
from benchmark.workloads import RULES

# Rounds after which memory and the number of compiled programs should not grow.
WARM_ROUNDS = 200
_ROUNDS_AT_ONCE = 200


def _command(workload: str) -> list[str]:
    return [sys.executable, "-m", "benchmark.worker", "in_process", workload]


def memory(folder: pathlib.Path) -> dict[str, Any]:
    """Peak memory of three rounds of W2's model, by cohort.

    Returns:
      `cohort_100_bytes`, `cohort_5000_bytes`, each of a process of its own, and
      `ratio`, the second over the first.

    Raises:
      ContenderFailed: a process ended, hangs or did not train.
    """
    result: dict[str, Any] = {}
    for cohort in (100, 5000):
        print(f"memory: a cohort of {cohort}", file=sys.stderr, flush=True)
        name = f"cohort_{cohort}"
        with contextlib.closing(
            Contender(_command(name), folder / f"{name}.log")
        ) as contender:
            contender.take(2, keep=False)
            result[f"{name}_bytes"] = contender.peak_bytes
    result["ratio"] = result["cohort_5000_bytes"] / result["cohort_100_bytes"]
    return result


def robust_rules(folder: pathlib.Path) -> dict[str, Any]:
    """Rounds of the EMNIST CNN and 100 clients x 100 examples, by aggregation rule.

    Returns:
      For "no_stack", a mean of updates that are never held together, and for each rule
      over their stack: `cpu_seconds` and `seconds`, medians of three rounds after two
      that may compile, and `peak_bytes`.

    Raises:
      ContenderFailed: a process ended, hangs or did not train.
    """
    result: dict[str, Any] = {}
    for rule in RULES:
        print(f"robust rules: {rule}", file=sys.stderr, flush=True)
        name = f"rule_{rule}"
        with contextlib.closing(
            Contender(_command(name), folder / f"{name}.log")
        ) as contender:
            contender.take(1, keep=False)
            contender.take(3, keep=True)
            result[rule] = {
                "cpu_seconds": statistics.median(contender.cpu_rounds),
                "seconds": statistics.median(contender.rounds),
                "peak_bytes": contender.peak_bytes,
            }
    return result


def compilations(folder: pathlib.Path) -> int:
    """How many programs XLA compiled, from what `--xla_dump_to` left in a folder."""
    if not folder.is_dir():
        return 0
    matches = (re.match(r"module_(\d+)\.", path.name) for path in folder.iterdir())
    return len({match[1] for match in matches if match})


def poisson(rounds: int, folder: pathlib.Path) -> dict[str, Any]:
    """W1's model on Poisson cohorts, expected 10 of 1,000, in one process.

    Args:
      rounds: more than `WARM_ROUNDS`.
      folder: an empty folder for the log and XLA's dump.

    Returns:
      `rounds`; `warm_bytes` and `final_bytes`, resident memory after `WARM_ROUNDS`
      and at the end, and `growth_ratio`, the second over the first;
      `warm_compilations` and `later_compilations`, programs that XLA compiled up to
      there and after.

    Raises:
      ContenderFailed: the process did not get to the end.
    """
    dump = folder / "xla_dump"
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={dump}".strip()
    with contextlib.closing(
        Contender(_command("poisson"), folder / "poisson.log", {"XLA_FLAGS": flags})
    ) as contender:
        done = 1
        result: dict[str, Any] = {"rounds": rounds}
        while done < rounds:
            count = min(_ROUNDS_AT_ONCE - done % _ROUNDS_AT_ONCE, rounds - done)
            contender.take(count, keep=done >= WARM_ROUNDS)
            done += count
            print(f"poisson: round {done} of {rounds}", file=sys.stderr, flush=True)
            if done == WARM_ROUNDS:
                result["warm_bytes"] = contender.resident_bytes
                result["warm_compilations"] = compilations(dump)
        result["final_bytes"] = contender.resident_bytes
        result["growth_ratio"] = result["final_bytes"] / result["warm_bytes"]
        total = compilations(dump)
        result["later_compilations"] = total - result["warm_compilations"]
    return result
