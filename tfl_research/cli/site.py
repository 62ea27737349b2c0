"""Runs the process of a site: `scripts/site --config=site.toml`."""

from __future__ import annotations

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.begin()

import argparse
import logging
import os
import pathlib
import sys
import warnings
from collections.abc import Sequence

from tfl_research.cli import last_resort
from tfl_research.cli.arguments import Parser
from tfl_research.errors import UserError
from tfl_research.storage.files import user_paths


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    whole = Parser(
        prog="scripts/site",
        description="Runs the process of a site until Ctrl-C or SIGTERM. The process "
        "trains on the site's own data for the coordinator, within the site's policy. "
        "You can end or kill the process at any moment, and start it again. "
        "docs/federation.md says more.",
        allow_abbrev=False,
    )
    whole.add_argument(
        "--config", metavar="FILE", required=True, help="the site.toml of the site"
    )
    whole.add_argument(
        "--train_for",
        metavar="FILE",
        help=(
            "the experiment.json that scripts/federation export wrote: train for a job "
            "of FLARE or an app of Flower, in which the engine averages"
        ),
    )
    return whole


def main(arguments: Sequence[str]) -> int:
    """Serves the site until SIGINT or SIGTERM; returns the exit code."""
    return last_resort.guarded("site", lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> int:
    parsed = parser().parse_args(arguments)
    path = user_paths.expanded(parsed.config)
    # As in the experiments: TensorFlow prints start-up notices as errors.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "pkg_resources is deprecated")
    try:
        if not path.is_file():
            raise UserError(
                f"--config={parsed.config}: the file does not exist; "
                "scripts/federation provision writes a site.toml for each site"
            )
        # The parser answers --help without the packages that a site needs.
        if parsed.train_for is None:
            from tfl_research.experiment.at_sites.site import serve_site

            serve_site(path)
        else:
            from tfl_research.experiment.at_sites.engine_jobs import serve_training

            serve_training(path, pathlib.Path(parsed.train_for), say=_say)
    except UserError as error:
        return last_resort.say("site", error.for_command_line, 2)
    except KeyboardInterrupt:
        return 130
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    last_resort.exit_with("site", main)
