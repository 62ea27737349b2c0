"""Command lines that nobody means, drawn from a seed."""

from __future__ import annotations

import os
import pathlib
import random
from collections.abc import Mapping, Sequence
from typing import Any, Optional

BINARIES = (
    *("byzantine", "cross_silo", "dp_fed_avg", "fed_avg", "fed_prox", "federated"),
    *("heterogeneity", "privacy_audit", "privacy_utility", "record_dp_fed_avg"),
    *("robust_fed_avg", "silo_baseline"),
)
_VALUES = (
    *("", " ", "0", "1", "-1", "3.5", "nan", "inf", "-inf", "1e30", "1e400", "1e-400"),
    *("9" * 400, "²", "٣", "1_0", "0x10", "True", "none", "null", "all", "poisson"),
    *("mean", "gaussian", "heart", "mnist", "csv", "a,b", "a,,b", "a=b", "=", "'x'"),
    *('"x"', "%s", "{0}", "[1]", "*", "~", "~nobody/x", "..", "/", "/dev/null"),
    *("/nothing/here", "a" * 5000, "\u202ex", "\x1b[2J", "\udcff", "é", "-", "--"),
    *("1 2", "\n", "127.0.0.1:1", "tls://x", "--rounds=1", "0.5:1", "1:2:3"),
)
_NAMES = ("", "round", "help_me", "no", "resume", "flagfile", "rounds=", "ü", "a.b")


def hostile_files(folder: pathlib.Path) -> list[str]:
    """Paths of files and folders that no program can use."""
    (folder / "binary").write_bytes(bytes(range(256)))
    (folder / "empty").write_bytes(b"")
    (folder / "deep.json").write_bytes(b"[" * 100_000)
    (folder / "huge.json").write_bytes(b'{"format": ' + b"9" * 6000 + b"}")
    (folder / "list.json").write_bytes(b"[1, 2]\n")
    (folder / "itself").write_text(f"--flagfile={folder / 'itself'}\n")
    (folder / "quoted").write_text('--task="heart"\n')
    (folder / "flags").write_text("\ufeff--task=heart\n--rounds=1\n", encoding="utf-8")
    (folder / "broken.toml").write_text("a = [\n")
    (folder / "folder").mkdir()
    (folder / "folder" / "thesis.tex").write_text("x")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    return sorted(str(path) for path in folder.iterdir())


def _value(draw: random.Random, files: Sequence[str]) -> str:
    return draw.choice(files) if draw.random() < 0.25 else draw.choice(_VALUES)


def of_binary(
    draw: random.Random, known: Mapping[str, Any], files: Sequence[str]
) -> list[str]:
    """Arguments of a binary of `experiments/`: its flags, with their defaults."""
    names = list(known)
    found = []
    # Most command lines get past the first flag.
    if draw.random() < 0.7:
        found += ["--task=heart", f"--output_dir={files[0]}-{draw.randrange(9)}/run"]
    for name in draw.sample(names, 2):
        if known[name] not in (None, [], ""):
            found.append(f"--{name}={known[name]}")
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        name = draw.choice(names) if draw.random() < 0.85 else draw.choice(_NAMES)
        value = _value(draw, files)
        form = draw.randrange(8)
        if form < 5:
            found.append(f"--{name}={value}")
        elif form == 5:
            found += [f"--{name}", value]
        elif form == 6:
            found.append(f"--no{name}" + draw.choice(["", "=3"]))
        else:
            found.append(draw.choice([f"-{name}", f"–{name}=1", value]))
    if draw.random() < 0.25:
        found.append(f"--flagfile={draw.choice(files)}")
    draw.shuffle(found)
    return found


_FITTING = {
    "integer": ("1", "2", "3", "64", "1000000000"),
    "number": ("0", "0.5", "1", "2", "1e-9", "1e9", "1e30"),
    "boolean": ("true", "false"),
}


def of_fitting_values(draw: random.Random, syntax: Mapping[str, str]) -> list[str]:
    """Arguments of a binary, each a value of its kind: together they may not fit.

    Args:
      draw: of the case.
      syntax: by flag, what its values are: "integer", "number", "boolean", "a|b".
    """
    names = [n for n, s in syntax.items() if s in _FITTING or "|" in s]
    found = ["--task=heart", "--output_dir=run"]
    for name in draw.sample(names, draw.randrange(1, 6)):
        values = _FITTING.get(syntax[name]) or syntax[name].split("|")
        found.append(f"--{name}={draw.choice(list(values))}")
    return found


def _of_describe_task(draw: random.Random, files: Sequence[str]) -> list[str]:
    task = draw.choice(["heart", "csv", "mnist", "nothing", ""])
    found = [task] if draw.random() < 0.9 else []
    for name in ("clients", "seed", "data_dir", "label_column", "partition", "x"):
        if draw.random() < 0.4:
            found.append(f"--{name}={_value(draw, files)}")
    return found


def _of_privacy_ledger(draw: random.Random, files: Sequence[str]) -> list[str]:
    command = draw.choice(["show", "verify", "plan", "budget", "sho", ""])
    found = [command]
    if command != "plan" and draw.random() < 0.9:
        found.append(draw.choice(files))
    for name in (
        *("cohort_size", "population", "target_epsilon", "rounds", "delta", "plugin"),
        *("noise_multiplier", "ledger", "epsilon", "mechanism", "sampler", "plot"),
    ):
        if draw.random() < 0.3:
            found.append(f"--{name}={_value(draw, files)}")
    return found


def _of_federation(draw: random.Random, files: Sequence[str]) -> list[str]:
    found = draw.choice(
        [["schema", "draft"], ["schema", "merge"], ["schema", "check"], ["schema"]]
        + [["carry"], ["nothing"], [""]]
    )
    found = list(found)
    for name in ("config", "data_dir", "label_column", "schema", "output", "site"):
        if draw.random() < 0.4:
            found.append(f"--{name}={_value(draw, files)}")
    if draw.random() < 0.4:
        found.append(_value(draw, files))
    return found


def _of_site(draw: random.Random, files: Sequence[str]) -> list[str]:
    found = [f"--config={_value(draw, files)}"] if draw.random() < 0.8 else []
    return (
        [*found, f"--train_for={_value(draw, files)}"] if draw.random() < 0.3 else found
    )


def _of_report(draw: random.Random, files: Sequence[str]) -> list[str]:
    return [_value(draw, files) for _ in range(draw.choice([0, 1, 1, 1, 2]))]


SCRIPTS = {
    "describe_task": _of_describe_task,
    "privacy_ledger": _of_privacy_ledger,
    "federation": _of_federation,
    "site": _of_site,
    "report": _of_report,
}


def module_of(script: str) -> str:
    """The module with the `main` of a script."""
    places = {
        "federation": "federation.__main__",
        "describe_task": "tasks.describe_task",
    }
    return f"tfl_research.cli.{places.get(script, script)}"


def program_of(number: int) -> tuple[str, Optional[str]]:
    """The binary or script of a case: (name, module of a script or None)."""
    names = [*BINARIES, *SCRIPTS]
    name = names[number % len(names)]
    return name, module_of(name) if name in SCRIPTS else None
