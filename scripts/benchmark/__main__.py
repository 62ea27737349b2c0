"""scripts/bench: contenders take turns; medians, ratios, start-up and memory."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from benchmark import (
    driver,
    endurance,
    flags as command_line,
    report,
    scale_out,
    specs,
    starts,
    sweeps,
    turns,
)
from benchmark.contender import ContenderFailed
from benchmark.held import Results
from benchmark.images import IMAGES, NORM_TOLERANCE
from benchmark.large import Large


def _wanted(flags: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Names of the results that the flags ask for, and the flags that change them."""
    contest = {
        name: getattr(flags, name) for name in ("contenders", "peers", "turns", "cards")
    }
    further: dict[str, dict[str, Any]] = {
        "memory": {},
        "robust_rules": {},
        "secure_sums": {},
        "start": {"start": flags.start, "starts": flags.starts},
        "sweep": {"sweep": flags.sweep},
        "poisson": {"poisson_rounds": flags.poisson_rounds},
    }
    asked = {**vars(flags), "poisson": flags.poisson_rounds}
    ways = [f"scale_out/{w}/{how}" for w in flags.scale_out for how in scale_out.WAYS]
    return {
        **({"gpus": {"cards": flags.cards}} if flags.cards else {}),
        **dict.fromkeys(flags.workloads, contest),
        **{name: by for name, by in further.items() if asked[name]},
        **{name: {} for name in ways},
    }


def main() -> None:
    flags = command_line.parse(sys.argv[1:])
    wanted = _wanted(flags)
    results = Results(flags.output, wanted)
    for name in wanted:
        if name in results:
            turns.say(
                f"{name}: {flags.output} already has this result; remove the file to "
                "measure again"
            )
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name in wanted:
                if name not in results:
                    results.add(name, _measured(name, flags, pathlib.Path(folder)))
    except ContenderFailed as error:
        sys.exit(f"scripts/bench: {error}")
    finally:
        # Also of a measurement that ends early: what is finished counts.
        _print(flags, results.values())


def _measured(name: str, flags: argparse.Namespace, folder: pathlib.Path) -> Any:
    """Measures one result."""
    if name in flags.workloads:
        return _contest(name, flags, folder)
    turns.say(f"{name} starts")
    if name == "gpus":
        return flags.cards
    if name == "memory":
        return endurance.memory(folder)
    if name == "robust_rules":
        return endurance.robust_rules(folder)
    if name == "secure_sums":
        # Needs the packages of the extra `federation`.
        from benchmark import secure_sums

        return secure_sums.run()
    if name == "start":
        return starts.measure(flags.start, flags.starts, folder)
    if name == "sweep":
        return sweeps.measure(flags.sweep, folder)
    if name == "poisson":
        return endurance.poisson(flags.poisson_rounds, folder)
    _, workload, how = name.split("/")
    runs = {
        workers: scale_out.one_run(workload, workers, how, folder)
        for workers in scale_out.WORKERS
    }
    return scale_out.summary(runs, len(os.sched_getaffinity(0)))


def _contest(
    workload: str, flags: argparse.Namespace, folder: pathlib.Path
) -> dict[str, Any]:
    """The contenders' figures on one workload."""
    chosen, unavailable = turns.commands(workload, flags.contenders, flags.peers)
    running, failed = turns.measure(workload, chosen, flags.turns, folder)
    spec = specs.SPECS.get(workload)
    flops = spec.flops() if isinstance(spec, Large) else None
    tolerance = (
        IMAGES[workload].norm_tolerance if workload in IMAGES else NORM_TOLERANCE
    )
    return report.summary(running, {**unavailable, **failed}, flops, tolerance)


def _print(flags: argparse.Namespace, values: Mapping[str, Any]) -> None:
    """The tables of all results, and the plot beside the file of --output."""
    results = {name: values[name] for name in flags.workloads if name in values}
    if report.columns_of(results):
        print(report.table(results))
        for line in report.remarks(results):
            print(line)
    tables: dict[str, Any] = {
        "secure_sums": report.sums_table,
        "start": starts.table,
        "scale_out": scale_out.table,
        "sweep": sweeps.table,
    }
    for kind, found in values.items():
        if kind not in results:
            print(kind, tables.get(kind, json.dumps)(found))
    if flags.output is not None and report.contenders_of(results):
        picture = flags.output.with_suffix(".svg")
        report.plot(results, picture)
        print(f"results: {flags.output}  {picture}")


if __name__ == "__main__":
    sys.exit(driver.run("scripts/bench", main))
