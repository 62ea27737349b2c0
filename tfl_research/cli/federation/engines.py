"""FLARE and Flower: their environments, their jobs, and carrying a federation."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any


def add_parsers(commands: Any) -> None:
    """Adds the parsers of the commands to what `add_subparsers` gave."""


@contextlib.contextmanager
def carrying(
    engine: str,
    folder: pathlib.Path,
    logs: pathlib.Path,
    say: Callable[[str], None],
) -> Iterator[None]:
    """Runs an engine's server, nodes and relays for a federation of this machine."""
    raise NotImplementedError
    yield
