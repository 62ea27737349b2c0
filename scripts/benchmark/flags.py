"""The flags of scripts/bench, checked before anything is measured."""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
from collections.abc import Collection
from typing import Any, Optional

from benchmark import endurance, starts, sweep_points
from benchmark.contenders import CONTENDERS
from benchmark.peers import environments
from benchmark.workloads import WORKLOADS

# The contender on a GPU, and whom --device=gpu compares.
_ON_GPU = "in_process_gpu"
_WITH_GPU = f"in_process,{_ON_GPU}"
# Flags for measurements that use no contenders.
FURTHER = (
    *("memory", "robust_rules", "secure_sums", "poisson_rounds", "start"),
    *("scale_out", "sweep"),
)
_STARTS = 5
# Flags that are lists, and what each may name.
_LISTS: dict[str, Collection[str]] = {
    "workloads": WORKLOADS,
    "contenders": CONTENDERS,
    "peers": environments.PEERS,
    "start": starts.STARTS,
    "scale_out": WORKLOADS,
    "sweep": sweep_points.SWEEPS,
}


def _switch(text: str) -> dict[str, Any]:
    return {"action": "store_true", "help": text}


def _optional_list(usual: str, text: str) -> dict[str, Any]:
    """Off when left out, `usual` without a list."""
    text = f"{text}; without a list: %(const)s"
    return {"nargs": "?", "const": usual, "default": "", "help": text}


def _number(default: Optional[int], text: str, **further: Any) -> dict[str, Any]:
    return {"type": int, "default": default, "help": text, **further}


_FLAGS: dict[str, dict[str, Any]] = {
    "workloads": {
        "default": "W1,W2,W3,W4,heart,shakespeare,flights",
        "help": f"which of {','.join(WORKLOADS)}; default %(default)s; may be empty",
    },
    "contenders": {
        "help": f"which of {','.join(CONTENDERS)}; default all but {_ON_GPU}, and with "
        f"--device=gpu {_WITH_GPU}",
    },
    "device": {
        "choices": ("cpu", "gpu"),
        "default": "cpu",
        "help": "gpu: compare the in-process runtime with clients' work on a GPU with "
        "the same runtime on the CPU",
    },
    "peers": _optional_list(
        ",".join(environments.PEERS),
        "also other libraries on W1 to W9, in environments of their own under "
        f"{environments.cache_folder()}",
    ),
    "memory": _switch("also the peak memory of cohorts of 100 and of 5,000 clients"),
    "robust_rules": _switch(
        "also rounds of each aggregation rule, with 100 clients of the EMNIST CNN"
    ),
    "secure_sums": _switch(
        "also bytes and seconds of secure sums and of plain sums, for several numbers "
        "of parties and of integers"
    ),
    "poisson_rounds": _number(
        0,
        f"also this many rounds of Poisson cohorts, more than {endurance.WARM_ROUNDS}: "
        "how memory grows, and how often programs are compiled",
        metavar="ROUNDS",
    ),
    "start": _optional_list(
        ",".join(starts.STARTS),
        "also whole processes, from the command to the end of the first round, with a "
        "filled and with an empty cache",
    ),
    "starts": _number(
        None, "number of processes of each kind under --start; default 5"
    ),
    "scale_out": _optional_list(
        "W1,W2,W3",
        "also rounds of --runtime=remote on 1, 2 and 4 workers of this machine, with "
        "examples that are sent and examples that are read from a folder; their bytes; "
        "and a prediction for other networks",
    ),
    "sweep": _optional_list(
        ",".join(sweep_points.SWEEPS),
        "also CPU seconds of a sweep's points by phase, rounds not counted",
    ),
    "output": {
        "type": pathlib.Path,
        "help": "JSON file for the results; a plot is written next to it. Results "
        "that the file already has are not measured again if flags, code and kind of "
        "machine are the same",
    },
    "turns": _number(
        7, "number of turns of each contender, fewer if rounds are long; default 7"
    ),
}


def parse(arguments: list[str]) -> argparse.Namespace:
    """The flags, checked; lists are lists of names.

    Also `cards`: name, driver and memory of each GPU, with --device=gpu.
    """
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures seconds a round, start-up and memory of this package "
        "and of other programs (contenders), which take turns.",
    )
    for name, options in _FLAGS.items():
        parser.add_argument(f"--{name}", **options)
    flags = parser.parse_args(arguments)
    if flags.contenders is None:
        usual = ",".join(name for name in CONTENDERS if name != _ON_GPU)
        flags.contenders = _WITH_GPU if flags.device == "gpu" else usual
    _check_device(parser, flags)
    flags.cards = _cards(parser) if flags.device == "gpu" else []
    for name, known in _LISTS.items():
        setattr(flags, name, _listed(parser, f"--{name}", getattr(flags, name), known))
    _check_numbers(parser, flags)
    known = {w for peer in flags.peers for w in environments.PEERS[peer].workloads}
    if flags.peers and not set(flags.workloads) & known:
        parser.error(
            f"--peers run only on {', '.join(sorted(known))}; add one to --workloads"
        )
    if not (flags.workloads or any(getattr(flags, name) for name in FURTHER)):
        parser.error("nothing to measure: --workloads is empty")
    _check_output(parser, flags.output)
    return flags


def _listed(
    parser: argparse.ArgumentParser, flag: str, text: str, known: Collection[str]
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
    for name in FURTHER:
        if getattr(flags, name):
            parser.error(
                f"--device=gpu: --{name} is measured on the CPU; leave --{name} out"
            )


def _check_numbers(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> None:
    if flags.starts is not None and not flags.start:
        parser.error("--starts goes with --start; add --start, or leave --starts out")
    if flags.starts is None:
        flags.starts = _STARTS
    for name in ("turns", "starts"):
        if getattr(flags, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(flags, name)}")
    if flags.poisson_rounds and flags.poisson_rounds <= endurance.WARM_ROUNDS:
        parser.error(
            f"--poisson_rounds must be above {endurance.WARM_ROUNDS}, after which "
            f"growth counts, got {flags.poisson_rounds}"
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
    # The file is replaced, for which its folder must be writable.
    places = [output.parent, *([output] if output.exists() else [])]
    if not all(os.access(place, os.W_OK) for place in places):
        parser.error(f"--output: {output} cannot be written; name another file")
