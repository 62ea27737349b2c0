"""Writes FOLDER/report.html again: `python -m tfl_research.cli.report FOLDER`."""

from __future__ import annotations

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.end_on_signals()

import argparse
import sys
from collections.abc import Sequence

from tfl_research import report


def main(arguments: Sequence[str]) -> int:
    """Writes the report and prints its path.

    Returns:
      The exit code: 0, or 2 with a line on stderr for a folder without a run or a
      report that cannot be written.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tfl_research.cli.report",
        description="Writes report.html of a run from its folder.",
    )
    parser.add_argument("folder", help="the run's folder (its --output_dir)")
    folder = parser.parse_args(arguments).folder
    try:
        path = report.write(folder)
    except (ValueError, report.ReportUnavailableError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
