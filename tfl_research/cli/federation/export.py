"""`scripts/federation export`: an experiment as a FLARE job or a Flower app."""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from tfl_research.cli.flag_values import flags
from tfl_research.cli.preset import Preset
from tfl_research.errors import UserError
from tfl_research.storage.files import user_paths


def add_parser(commands: Any) -> None:
    """Adds the parser of the command to what `add_subparsers` gave."""
    parser = commands.add_parser(
        "export",
        help="write a FLARE job or a Flower app in which the engine averages by itself",
        description="Writes a FLARE job (ScatterAndGather, IntimeModelSelector) or a "
        "Flower app (FedAvg) in which the engine averages, and this toolkit trains at "
        "the sites. Also writes experiment.json, which sites need for scripts/site "
        "--train_for. Give the experiment's flags too: --task=csv --data_dir=DIR ...",
        allow_abbrev=False,
    )
    parser.add_argument("--engine", required=True, help="flare or flower")
    parser.add_argument("--folder", required=True, help="a new folder")
    parser.add_argument(
        "--experiment",
        default="experiments/fed_avg.py",
        metavar="FILE",
        help="the program whose flags follow (default: experiments/fed_avg.py)",
    )
    parser.add_argument(
        "--minimum_sites",
        type=int,
        default=2,
        help="sites that must take part in a round (default: 2)",
    )
    parser.add_argument(
        "--site_weight",
        action="append",
        default=[],
        metavar="SITE=WEIGHT",
        help=(
            "FLARE: a factor of a site's weight, beside its number of examples; may "
            "be repeated"
        ),
    )
    parser.add_argument(
        "--fraction_fit",
        type=float,
        default=1.0,
        help="Flower: share of the sites that train in a round (default: 1)",
    )
    parser.set_defaults(run=_run, takes_flags=True)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.minimum_sites < 1:
        raise UserError(
            f"--minimum_sites={arguments.minimum_sites}: must be at least 1"
        )
    if not 0 < arguments.fraction_fit <= 1:
        raise UserError(
            f"--fraction_fit={arguments.fraction_fit:g}: must be above 0, at most 1"
        )
    weights = dict(_weight(text) for text in arguments.site_weight)
    given = flags.parse(
        preset_of(arguments.experiment), [arguments.experiment, *arguments.flags]
    )
    from tfl_research.experiment.at_sites import engine_jobs

    folder = user_paths.expanded(arguments.folder).absolute()
    job = engine_jobs.export(
        given.experiment(),
        arguments.engine,
        folder,
        minimum_sites=arguments.minimum_sites,
        site_weights=weights,
        fraction_fit=arguments.fraction_fit,
    )
    settings = folder / engine_jobs.SETTINGS_FILE
    sys.stdout.write(
        f"{job}: run it with scripts/federation carry --config=federation.toml "
        f"--job={job}\n{settings}: give this file to the sites, which run "
        f"scripts/site --config=site.toml --train_for={settings.name} and "
        "scripts/federation carry --config=site.toml\n"
    )
    return 0


def _weight(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        weight = float(value)
    except ValueError:
        weight = -1.0
    if not name or not weight > 0:
        raise UserError(
            f"--site_weight={text}: must be SITE=WEIGHT with a weight above 0"
        )
    return name, weight


def preset_of(path: str) -> Preset:
    """Returns the preset of a program of `experiments/`.

    Args:
      path: the path of the program, relative to the current folder or the checkout.

    Raises:
      UserError: there is no such program.
    """
    root = pathlib.Path(__file__).resolve().parents[3]
    for program in (pathlib.Path(path), root / path):
        if not program.is_file():
            continue
        spec = importlib.util.spec_from_file_location(program.stem, program)
        if spec is None or spec.loader is None:
            break
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if isinstance(getattr(module, "PRESET", None), Preset):
            preset: Preset = module.PRESET
            return preset
    raise UserError(
        f"--experiment={path}: is not a program of experiments/ with a PRESET; give "
        "for example experiments/fed_avg.py"
    )


def split(arguments: Sequence[str], parsed: Any, rest: Sequence[str]) -> None:
    """Keeps the arguments after a command as the experiment's flags, or refuses them.

    Raises:
      UserError: the command takes no further flags.
    """
    if rest and not getattr(parsed, "takes_flags", False):
        raise UserError(
            f"unknown argument {rest[0]!r}; scripts/federation "
            f"{arguments[0]} --help lists all"
        )
    parsed.flags = list(rest)
