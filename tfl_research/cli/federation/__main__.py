"""Reads the command line of `scripts/federation`."""

from __future__ import annotations

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.begin()

import argparse
from collections.abc import Sequence

from tfl_research.cli import last_resort
from tfl_research.cli.arguments import Parser
from tfl_research.cli.federation import demo, engines, export, provision, schema
from tfl_research.errors import message_for_command_line

_PROGRAM = "federation"


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    whole = Parser(
        prog="scripts/federation",
        description="Commands for federations whose data stay at their sites. "
        "docs/federation.md explains each step.",
        allow_abbrev=False,
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    schemas = commands.add_parser(
        "schema",
        help="agree on the columns, levels, scales and classes of tables",
        allow_abbrev=False,
    )
    schema.add_parsers(
        schemas.add_subparsers(dest="step", required=True, metavar="STEP")
    )
    provision.add_parser(commands)
    engines.add_parsers(commands)
    export.add_parser(commands)
    demo.add_parser(commands)
    return whole


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Returns:
      The exit code: 0; 1 for data that do not fit a schema; 2 for wrong arguments.
    """
    return last_resort.guarded(_PROGRAM, lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> int:
    parsed, rest = parser().parse_known_args(arguments)
    try:
        export.split(arguments, parsed, rest)
        return int(parsed.run(parsed))
    except (ValueError, OSError) as error:
        message = message_for_command_line(error)
        return last_resort.say(_PROGRAM, message, last_resort.USAGE_ERROR)


if __name__ == "__main__":
    last_resort.exit_with(_PROGRAM, main)
