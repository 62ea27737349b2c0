"""Where a coordinator's lines about its sites go."""

from __future__ import annotations

import os
import pathlib
import sys
from typing import Optional


class Lines:
    """Prints lines, or keeps them in a file that only the owner of the run can read.

    A line that a site did not answer in a round tells that the site takes part in the
    round. Amplification by sampling assumes that nobody knows who takes part.
    """

    def __init__(self) -> None:
        self._path: Optional[pathlib.Path] = None

    def __call__(self, line: str) -> None:
        """Prints or keeps a line."""
        if self._path is None:
            sys.stderr.write(f"{line}\n")
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        descriptor = os.open(self._path, flags, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def keep(self, path: pathlib.Path) -> None:
        """Keeps all later lines in a file, and prints where they are."""
        self(
            f"lines about sites that do not answer are in {path}, because they tell "
            "who takes part in a round, which this run keeps secret"
        )
        self._path = path
