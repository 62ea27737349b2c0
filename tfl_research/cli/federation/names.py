"""Names of sites, which are also names of files, folders and clients of engines."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def check_site_name(flag: str, name: str) -> None:
    """Raises ValueError unless the name is one that a site may have."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{flag}={name}: a site's name has small letters, digits, '-' and '_' "
            "only, at most 63, and begins with a letter or a digit"
        )


def site_names(flag: str, text: str) -> tuple[str, ...]:
    """The names of a list separated by commas.

    Raises:
      ValueError: no name, a name twice, or a name that no site may have.
    """
    names: Sequence[str] = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError(f"{flag}={text}: no site is named; give the names of all")
    for name in names:
        check_site_name(flag, name)
        if names.count(name) > 1:
            raise ValueError(f"{flag}={text}: names {name} twice; leave one out")
    return tuple(names)
