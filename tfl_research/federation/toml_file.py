"""Reads TOML files that people write; errors name the file and the line."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from tfl_research.errors import UserError


def read(path: pathlib.Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
      UserError: the file does not exist, or is not TOML; the message names the file and
        the line.
    """
    try:
        # Windows editors begin a file with a byte order mark.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not TOML: {error}") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); give a file that exists and "
            "is readable"
        ) from None


def check_names(where: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
    """Checks that a table has only known entries.

    Raises:
      UserError: the table has another entry.
    """
    known = list(known)
    for name in table:
        if name not in known:
            raise UserError(
                f"{where}: unknown entry {name!r}; expected {', '.join(known)}"
            )
