"""scripts/bench: contenders take turns; medians, ratios, start-up and memory."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any, Optional

from benchmark import (
    driver,
    endurance,
    report,
    scale_out,
    specs,
    starts,
    sweep_points,
    sweeps,
)
from benchmark.contender import Contender, ContenderFailed
from benchmark.contenders import CONTENDERS
from benchmark.images import IMAGES
from benchmark.large import LARGE, Large
from benchmark.peers import environments
from benchmark.workloads import WORKLOADS

# Seconds of rounds that a contender gets in each of its turns, at least one round.
_TURN_SECONDS = 1.0
_WARM_ROUNDS = 3
# A round that takes longer is not repeated before it counts.
_LONG_SECONDS = 5.0
# The contender on a GPU, and whom --device=gpu compares.
_ON_GPU = "in_process_gpu"
_WITH_GPU = f"in_process,{_ON_GPU}"
# Flags for measurements that use no contenders.
_FURTHER = (
    *("memory", "robust_rules", "secure_sums", "poisson_rounds", "start"),
    *("scale_out", "sweep"),
)
# TFF has no DP-SGD at the clients.
_NOT_IN_TFF = tuple(n for n, s in IMAGES.items() if s.record_clip is not None)


def commands(
    workload: str, contenders: list[str], peers: list[str]
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Commands of those that run the workload, and why other peers are absent."""
    # A program by hand for the small models, and the rate of products for the others.
    runs_on: dict[str, Any] = {
        "limit": [n for n, s in IMAGES.items() if s.record_clip is None],
        "roofline": LARGE,
        "plain_tff": [n for n in WORKLOADS if n not in _NOT_IN_TFF],
    }
    chosen = {
        name: [sys.executable, "-m", "benchmark.worker", name, workload]
        for name in contenders
        if workload in runs_on.get(name, (workload,))
    }
    absent: dict[str, str] = {}
    for peer in peers:
        if workload not in environments.PEERS[peer].workloads:
            continue
        try:
            chosen[peer] = environments.command(peer, workload)
        except environments.PeerUnavailable as error:
            absent[peer] = str(error)
            print(f"{workload}: no {peer}: {error}", file=sys.stderr)
    return chosen, absent


def measure(
    workload: str, chosen: dict[str, list[str]], turns: int, folder: pathlib.Path
) -> tuple[dict[str, Contender], dict[str, str]]:
    """Contenders with the rounds they ran in turns, and why others have none."""
    running: dict[str, Contender] = {}
    absent: dict[str, str] = {}

    def give_up(name: str, error: ContenderFailed) -> None:
        absent[name] = str(error)
        print(f"{workload}: no {name}: {error}", file=sys.stderr)
        if name in running:
            running.pop(name).kill()

    try:
        for name, command in chosen.items():
            print(f"{workload}: starting {name}", file=sys.stderr, flush=True)
            try:
                log = folder / f"{workload}_{name}.log"
                running[name] = Contender(command, log)
            except ContenderFailed as error:
                give_up(name, error)
        counts = {}
        for name, contender in list(running.items()):
            try:
                usual = contender.take(1, keep=False)
                if usual < _LONG_SECONDS:
                    usual = contender.take(_WARM_ROUNDS - 1, keep=False)
                counts[name] = max(1, min(20, round(_TURN_SECONDS / usual)))
            except ContenderFailed as error:
                give_up(name, error)
        for turn in range(turns):
            print(f"{workload}: turn {turn + 1} of {turns}", file=sys.stderr)
            for name, contender in list(running.items()):
                try:
                    contender.take(counts[name], keep=True)
                except ContenderFailed as error:
                    give_up(name, error)
    except BaseException:
        for contender in running.values():
            contender.kill()
        raise
    for contender in running.values():
        contender.close()
    return running, absent


def _listed(
    parser: argparse.ArgumentParser, flag: str, text: str, known: Any
) -> list[str]:
    """The names in a flag's list; an error names one that is not known."""
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in known:
            parser.error(f"{flag}: {name!r} is not one of {', '.join(known)}")
    return names


def _cards(parser: argparse.ArgumentParser) -> list[str]:
    """Name, driver and memory of each GPU, as NVIDIA's driver tells them."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total"]
    try:
        told = subprocess.run(
            [*query, "--format=csv,noheader"],
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        parser.error(f"--device=gpu: nvidia-smi finds no GPU ({error}); leave it out")
    return told.stdout.splitlines()


def parse(arguments: list[str]) -> argparse.Namespace:
    """The flags, checked."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "--workloads",
        default="W1,W2,W3,W4,heart,shakespeare,flights",
        help=f"which of {','.join(WORKLOADS)}; default %(default)s; may be empty",
    )
    parser.add_argument(
        "--contenders",
        help=f"which of {','.join(CONTENDERS)}; default all but {_ON_GPU}, and with "
        f"--device=gpu {_WITH_GPU}",
    )
    parser.add_argument(
        "--device",
        choices=("cpu", "gpu"),
        default="cpu",
        help="gpu: the in-process runtime with clients' work on a GPU, against itself "
        "on the CPU",
    )
    parser.add_argument(
        "--peers",
        nargs="?",
        const=",".join(environments.PEERS),
        default="",
        help="other libraries on W1 to W9, in environments of their own under "
        f"{environments.cache_folder()}; without a list all: %(const)s",
    )
    parser.add_argument(
        "--memory",
        action="store_true",
        help="also the peak memory of a cohort of 100 and of 5,000",
    )
    parser.add_argument(
        "--robust_rules",
        action="store_true",
        help="also rounds of 100 clients of the EMNIST CNN, by aggregation rule",
    )
    parser.add_argument(
        "--secure_sums",
        action="store_true",
        help="also secure sums against plain sums: bytes and seconds, by parties "
        "and integers",
    )
    parser.add_argument(
        "--poisson_rounds",
        type=int,
        default=0,
        metavar="ROUNDS",
        help="also this many rounds of Poisson cohorts, above "
        f"{endurance.WARM_ROUNDS}: growth of memory, compilations",
    )
    parser.add_argument(
        "--start",
        nargs="?",
        const=",".join(starts.STARTS),
        default="",
        help="also whole processes until the end of round one, with a filled and with "
        "an empty cache; without a list all: %(const)s",
    )
    parser.add_argument(
        "--starts",
        type=int,
        default=5,
        help="processes of each kind that --start takes the median of",
    )
    parser.add_argument(
        "--scale_out",
        nargs="?",
        const="W1,W2,W3",
        default="",
        help="also rounds of --runtime=remote on 1, 2 and 4 workers of this machine, "
        "with data shipped and read from a folder, the bytes, and a model of a "
        "network; without a list of workloads: %(const)s",
    )
    parser.add_argument(
        "--sweep",
        nargs="?",
        const=",".join(sweep_points.SWEEPS),
        default="",
        help="also CPU seconds of a sweep's points beside their rounds, by phase; "
        "without a list all: %(const)s",
    )
    parser.add_argument(
        "--output", type=pathlib.Path, help="JSON file; a plot beside it"
    )
    parser.add_argument("--turns", type=int, default=7, help="turns of each contender")
    flags = parser.parse_args(arguments)
    if flags.contenders is None:
        usual = ",".join(name for name in CONTENDERS if name != _ON_GPU)
        flags.contenders = _WITH_GPU if flags.device == "gpu" else usual
    _check_device(parser, flags)
    flags.cards = _cards(parser) if flags.device == "gpu" else []
    for name, known in (
        ("workloads", WORKLOADS),
        ("contenders", CONTENDERS),
        ("peers", environments.PEERS),
        ("start", starts.STARTS),
        ("scale_out", WORKLOADS),
        ("sweep", sweep_points.SWEEPS),
    ):
        setattr(flags, name, _listed(parser, f"--{name}", getattr(flags, name), known))
    if flags.turns < 1:
        parser.error(f"--turns must be at least 1, got {flags.turns}")
    if flags.starts < 1:
        parser.error(f"--starts must be at least 1, got {flags.starts}")
    if flags.poisson_rounds and flags.poisson_rounds <= endurance.WARM_ROUNDS:
        parser.error(
            f"--poisson_rounds must be above {endurance.WARM_ROUNDS}, after which "
            f"growth counts, got {flags.poisson_rounds}"
        )
    known = {w for peer in flags.peers for w in environments.PEERS[peer].workloads}
    if flags.peers and not set(flags.workloads) & known:
        parser.error(
            f"--peers run only on {', '.join(sorted(known))}; add one to --workloads"
        )
    if not (flags.workloads or any(getattr(flags, name) for name in _FURTHER)):
        parser.error("nothing to measure: --workloads is empty")
    _check_output(parser, flags.output)
    return flags


def _check_device(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> None:
    """Refuses what would be measured on another device than the flag names."""
    on_gpu = _ON_GPU in flags.contenders.split(",")
    if on_gpu and flags.device != "gpu":
        parser.error(f"--contenders: {_ON_GPU} goes with --device=gpu only; add it")
    if flags.device != "gpu":
        return
    if not (on_gpu and flags.workloads):
        parser.error(
            f"--device=gpu: --contenders={flags.contenders} on the workloads "
            f"{flags.workloads!r} use no GPU; add {_ON_GPU} and a workload"
        )
    for name in _FURTHER:
        if getattr(flags, name):
            parser.error(
                f"--device=gpu: --{name} is measured on the CPU; leave --{name} out"
            )


def _check_output(
    parser: argparse.ArgumentParser, output: Optional[pathlib.Path]
) -> None:
    """Refuses a file that could not be written after minutes of measurements."""
    if output is None:
        return
    if not output.parent.is_dir():
        parser.error(f"--output: there is no folder {output.parent}")
    if output.is_dir():
        parser.error(
            f"--output: {output} is a folder; name a file, as {output}/W1.json"
        )
    if output.suffix == ".svg":
        parser.error(f"--output: {output} is the name of the plot; give FILE.json")
    if not os.access(output if output.exists() else output.parent, os.W_OK):
        parser.error(f"--output: {output} cannot be written; name another file")


def _scale_out(
    workload: str, found: dict[str, Any], folder: pathlib.Path, save: Any
) -> None:
    """Adds the figures of a workload on workers; saves after each way."""
    for how in scale_out.WAYS:
        runs = {
            workers: scale_out.one_run(workload, workers, how, folder)
            for workers in scale_out.WORKERS
        }
        found[how] = scale_out.summary(runs, len(os.sched_getaffinity(0)))
        save()


def main() -> None:
    flags = parse(sys.argv[1:])
    results: dict[str, Any] = {}
    extra_results: dict[str, Any] = {}
    if flags.cards:
        extra_results["gpus"] = flags.cards
    try:
        _all(flags, results, extra_results)
    finally:
        # Also of a measurement that ends early: what is finished counts.
        _print(flags.output, results, extra_results)


def _all(
    flags: argparse.Namespace, results: dict[str, Any], extra_results: dict[str, Any]
) -> None:
    """Measures what the flags name, and adds each result when it is there."""

    def save() -> None:
        if flags.output is not None:
            everything = {**results, **extra_results}
            flags.output.write_text(json.dumps(everything, indent=1) + "\n")

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for workload in flags.workloads:
            chosen, unavailable = commands(workload, flags.contenders, flags.peers)
            running, failed = measure(workload, chosen, flags.turns, folder)
            spec = specs.SPECS.get(workload)
            flops = spec.flops() if isinstance(spec, Large) else None
            results[workload] = report.summary(
                running, {**unavailable, **failed}, flops
            )
            save()
        try:
            if flags.memory:
                extra_results["memory"] = endurance.memory(folder)
                save()
            if flags.robust_rules:
                extra_results["robust_rules"] = endurance.robust_rules(folder)
                save()
            if flags.secure_sums:
                # Needs the packages of the extra `federation`.
                from benchmark import secure_sums

                extra_results["secure_sums"] = secure_sums.run()
                save()
            if flags.start:
                extra_results["start"] = starts.measure(
                    flags.start, flags.starts, folder
                )
                save()
            for workload in flags.scale_out:
                found = extra_results.setdefault("scale_out", {})
                _scale_out(workload, found.setdefault(workload, {}), folder, save)
            if flags.sweep:
                extra_results["sweep"] = sweeps.measure(flags.sweep, folder)
                save()
            if flags.poisson_rounds:
                extra_results["poisson"] = endurance.poisson(
                    flags.poisson_rounds, folder
                )
                save()
        except ContenderFailed as error:
            sys.exit(f"scripts/bench: {error}")


def _print(
    output: Optional[pathlib.Path],
    results: dict[str, Any],
    extra_results: dict[str, Any],
) -> None:
    """The tables of all results, and the plot beside `output`."""
    if report.contenders_of(results):
        print(report.table(results))
        for line in report.remarks(results):
            print(line)
    tables: dict[str, Any] = {
        "secure_sums": report.sums_table,
        "start": starts.table,
        "scale_out": scale_out.table,
        "sweep": sweeps.table,
    }
    for kind, values in extra_results.items():
        print(kind, tables.get(kind, json.dumps)(values))
    if output is not None and report.contenders_of(results):
        picture = output.with_suffix(".svg")
        report.plot(results, picture)
        print(f"results: {output}  {picture}")


if __name__ == "__main__":
    sys.exit(driver.run("scripts/bench", main))
