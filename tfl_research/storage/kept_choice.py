"""A choice that a run makes once, in a file of the run's folder."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Optional, TypeVar

from tfl_research.errors import UserError
from tfl_research.storage import atomic

Value = TypeVar("Value")


def keep(path: pathlib.Path, record: Mapping[str, Any]) -> None:
    """Writes a choice, durably. Only the owner can read the file.

    The reason for a choice has measured times, which depend on who took part.
    """
    content = (json.dumps(dict(record), indent=1) + "\n").encode()
    atomic.write(path, content, mode=0o600)


def kept(
    path: pathlib.Path, read: Callable[[dict[str, Any]], Value]
) -> Optional[Value]:
    """Reads a choice; None if the run has not chosen yet.

    Args:
      path: the file.
      read: makes the choice of the record.

    Raises:
      UserError: the file has no such choice.
    """
    if not path.exists():
        return None
    try:
        return read(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} does not hold a choice of execution ({error}); start over in "
            "another --output_dir"
        ) from error
