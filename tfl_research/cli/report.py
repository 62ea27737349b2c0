"""Writes FOLDER/report.html again: `python -m tfl_research.cli.report FOLDER`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tfl_research import report
from tfl_research.cli import last_resort
from tfl_research.cli.arguments import Parser


def main(arguments: Sequence[str]) -> int:
    """Writes the report and prints its path.

    Returns:
      The exit code: 0, or 2 with a line on stderr for a folder without a run or a
      report that cannot be written.
    """
    parser = Parser(
        prog="python -m tfl_research.cli.report",
        description="Writes report.html of a run from its folder.",
    )
    parser.add_argument("folder", help="the run's folder (its --output_dir)")
    folder = parser.parse_args(arguments).folder
    return last_resort.guarded("report", lambda: _written(folder))


def _written(folder: str) -> int:
    try:
        path = report.write(folder)
    except (ValueError, report.ReportUnavailableError) as error:
        return last_resort.say("report", str(error), last_resort.USAGE_ERROR)
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    last_resort.exit_with("report", main)
