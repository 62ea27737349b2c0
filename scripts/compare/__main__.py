"""scripts/compare_frameworks: the same federated task in every framework."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import sys
import tempfile
import time
from typing import Any

from benchmark import driver

from compare import federated_task, measurement, outcomes, table
from compare.forgotten import Forgotten
from compare.frameworks import FRAMEWORKS, SCRIPTS
from tfl_research.errors import UserError

_SEED = 1
_ALL = "all"


def _names(parser: argparse.ArgumentParser, flag: str, text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in FRAMEWORKS:
            parser.error(f"{flag}: {name!r} is not one of {', '.join(FRAMEWORKS)}")
    return names


def parse(arguments: list[str]) -> argparse.Namespace:
    """The flags, checked."""
    parser = argparse.ArgumentParser(
        prog="scripts/compare_frameworks", description=__doc__
    )
    parser.add_argument(
        "--frameworks",
        default=",".join(FRAMEWORKS),
        help="frameworks to measure, separated by commas; default %(default)s",
    )
    parser.add_argument(
        "--again",
        nargs="?",
        const=_ALL,
        default="",
        metavar="NAMES",
        help="frameworks that are measured again, although they have results; without "
        "names, all of --frameworks. The same command continues an interrupted one",
    )
    parser.add_argument(
        "--rounds", type=int, default=10, help="rounds of a run; default %(default)s"
    )
    parser.add_argument(
        "--runs",
        type=int,
        default=3,
        help="number of runs of each framework; default %(default)s",
    )
    parser.add_argument(
        "--output_dir",
        type=pathlib.Path,
        default=SCRIPTS.parent / "docs" / "results",
        help="folder for frameworks.md, frameworks.svg and frameworks/NAME.json; "
        "default %(default)s",
    )
    flags = parser.parse_args(arguments)
    flags.frameworks = _names(parser, "--frameworks", flags.frameworks)
    if flags.again == _ALL:
        flags.again = flags.frameworks
    else:
        flags.again = _names(parser, "--again", flags.again)
    if not flags.frameworks:
        parser.error("--frameworks is empty")
    for name in flags.again:
        if name not in flags.frameworks:
            parser.error(f"--again: {name} is not among --frameworks")
    if flags.rounds < 4:
        parser.error(f"--rounds must be at least 4, got {flags.rounds}")
    if flags.runs < 1:
        parser.error(f"--runs must be at least 1, got {flags.runs}")
    return flags


def yardstick(folder: pathlib.Path, rounds: int) -> measurement.Yardstick:
    """Writes the task's files, and trains the reference."""
    import numpy as np

    from tfl_research import tasks

    task = tasks.get(
        "mnist",
        partition="dirichlet",
        num_clients=federated_task.NUM_CLIENTS,
        held_out_clients=0,
    )
    clients, tests = [], []
    for name in task.train.client_ids:
        examples = task.train.load(name)
        kept = slice(federated_task.EXAMPLES)
        clients.append((examples["x"][kept], examples["y"][kept]))
        if len(clients[-1][1]) < federated_task.EXAMPLES:
            raise ValueError(f"{name} has only {len(clients[-1][1])} images")
        tests.append(task.test.load(name))
    test = tuple(np.concatenate([one[key] for one in tests]) for key in ("x", "y"))
    weights = federated_task.glorot(_SEED)
    federated_task.write(folder, clients, (test[0], test[1]), weights)
    first, last = federated_task.reference(clients, weights, rounds)
    return measurement.Yardstick(folder, (test[0], test[1]), first, last)


def machine() -> str:
    """The machine's processor, cores and load, in words."""
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    names = re.findall(r"model name\s*:\s*(.*)", _processors())
    kind = f" of {' '.join(names[0].split())}" if names else ""
    where = f"{platform.machine()} with {cores} cores{kind}"
    return f"{where} (load {load:.1f} at the start)"


def _processors() -> str:
    try:
        return pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def _say(text: str) -> None:
    """A line of progress, with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main() -> None:
    flags = parse(sys.argv[1:])
    folder = flags.output_dir / "frameworks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--output_dir={flags.output_dir}: cannot be written ({error.strerror}); "
            "name another folder"
        ) from error
    forgotten = Forgotten(folder / ".again")
    for name in flags.again:
        if not forgotten.forget(name):
            _say(f"{FRAMEWORKS[name].title}: going on where --again was interrupted")
    today = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    setting = measurement.Setting(flags.rounds, flags.runs, today, machine())
    notes = {"rounds": str(flags.rounds)}
    try:
        with tempfile.TemporaryDirectory() as temporary:
            standard = yardstick(pathlib.Path(temporary), flags.rounds)
            reached = federated_task.accuracy(standard.last, standard.test)
            notes["reference"] = f"an accuracy of {reached:.3f}"
            for number, name in enumerate(flags.frameworks):
                place = f"{number + 1} of {len(flags.frameworks)}"
                _measure(name, setting, standard, folder, place)
                _write(flags.output_dir, folder, setting, notes)
        forgotten.end(flags.frameworks)
    finally:
        _say(
            f"results: {folder}; page and plot: {flags.output_dir}/frameworks.md, "
            "frameworks.svg. Frameworks that have a result are not measured again"
        )
    print((flags.output_dir / "frameworks.md").read_text())


def _measure(
    name: str,
    setting: measurement.Setting,
    standard: measurement.Yardstick,
    folder: pathlib.Path,
    place: str,
) -> None:
    title, begin = FRAMEWORKS[name].title, time.monotonic()

    def say(what: str) -> None:
        _say(f"{place}, {title}: {what}")

    try:
        found = measurement.Measurement(
            FRAMEWORKS[name], setting, standard, folder / f"{name}.json", say
        ).run()
    except ValueError as error:
        raise UserError(str(error)) from error
    reason = outcomes.absence(found)
    minutes = (time.monotonic() - begin) / 60
    say(f"not run: {reason}" if reason else f"done in {minutes:.1f} minutes")


def _write(
    output: pathlib.Path,
    folder: pathlib.Path,
    setting: measurement.Setting,
    notes: dict[str, str],
) -> None:
    """The page and the plot of all results of these programs and this setting."""
    results: dict[str, Any] = {}
    for name, framework in FRAMEWORKS.items():
        path = folder / f"{name}.json"
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["identity"] == measurement.identity(framework, setting):
                results[name] = found
    part = output / "frameworks.md.part"
    part.write_text(table.page(results, notes), encoding="utf-8")
    part.replace(output / "frameworks.md")
    table.plot(results, output / "frameworks.svg")


if __name__ == "__main__":
    sys.exit(driver.run("scripts/compare_frameworks", main))
