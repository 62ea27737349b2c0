"""Writes pages about a run, several runs, or a sweep: scripts/report."""

from __future__ import annotations

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.begin()

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Optional

from tfl_research import report
from tfl_research.cli import last_resort
from tfl_research.cli.arguments import Parser
from tfl_research.report.several.page import FILE
from tfl_research.storage.files import user_paths

_WHAT = """For one run, writes report.html into the run's folder. For several runs or a
sweep, writes a page that compares the runs: curves in the same plots, results, and the
settings that differ. Runs that differ only in their seed are shown by their mean."""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="scripts/report", description=_WHAT)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="a run's folder")
    parser.add_argument("--sweep", metavar="FOLDER", help="a sweep's folder")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help=(
            f"file of the page that compares runs; when not given, {FILE} in the "
            "sweep's folder, or in the folder that holds all runs"
        ),
    )
    return parser


def _common(runs: Sequence[str]) -> pathlib.Path:
    parents = [user_paths.expanded(run).resolve().parent for run in runs]
    return pathlib.Path(os.path.commonpath(parents)) / FILE


def _write(
    runs: Sequence[str], sweep: Optional[str], output: Optional[str]
) -> pathlib.Path:
    if sweep is not None:
        if runs:
            raise ValueError(
                f"--sweep={sweep}: names the runs already, but {runs[0]} is given "
                "too; leave one of the two out"
            )
        return report.compare_sweep(sweep, output)
    if not runs:
        raise ValueError("no run is named; give a run's folder, or --sweep=FOLDER")
    if len(runs) > 1:
        return report.compare(runs, _common(runs) if output is None else output)
    if output is not None:
        raise ValueError(
            f"--output={output}: the page of one run is its report.html; leave "
            "--output out, or name several runs"
        )
    return report.write(runs[0])


def main(arguments: Sequence[str]) -> int:
    """Writes the page and prints its path.

    Returns:
      The exit code: 0; 2, with a line on stderr, if a folder has no run, the page
      cannot be written, or arguments do not go together.
    """
    given = _parser().parse_args(arguments)
    return last_resort.guarded("report", lambda: _said(given))


def _said(given: argparse.Namespace) -> int:
    try:
        path = _write(given.runs, given.sweep, given.output)
    except (ValueError, report.ReportUnavailableError) as error:
        return last_resort.say("report", str(error), last_resort.USAGE_ERROR)
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    last_resort.exit_with("report", main)
