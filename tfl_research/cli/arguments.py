"""The parser of the command lines of `scripts/`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, Optional


class Parser(argparse.ArgumentParser):
    """argparse's parser, whose errors are one line that names the argument."""

    def parse_known_args(  # type: ignore[override]
        self,
        args: Optional[Sequence[str]] = None,
        namespace: Optional[argparse.Namespace] = None,
    ) -> tuple[Any, list[str]]:
        """Parses the arguments, and refuses "--" as the value of a flag.

        argparse alone reads `--flag=--` as a flag without a value.
        """
        given = sys.argv[1:] if args is None else list(args)
        for argument in given:
            name, equals, value = argument.partition("=")
            if name.startswith("--") and equals and value == "--":
                self.error(f"argument {name}: expected a value, got '--'")
        return super().parse_known_args(given, namespace)

    def error(self, message: str) -> NoReturn:
        """Ends the program with the message on one line, and exit code 2."""
        line = " ".join(message.split())
        self.exit(2, f"{self.prog}: error: {line} (--help lists all)\n")
