"""Finds folders of the user who runs a program: home folder and cache."""

from __future__ import annotations

import os
import pathlib
from typing import Optional, Union

from tfl_research.errors import UserError

VARIABLE = "XDG_CACHE_HOME"


def expanded(path: Union[str, os.PathLike[str]]) -> pathlib.Path:
    """Replaces "~" in a path by the home folder.

    Raises:
      UserError: the home folder is unknown.
    """
    text = os.path.expanduser(os.fspath(path))
    if text.startswith("~"):
        raise UserError(
            f"{os.fspath(path)}: the home folder of {text.partition('/')[0]} is "
            "unknown; set HOME, or give the whole path"
        )
    return pathlib.Path(text)


def cache() -> Optional[pathlib.Path]:
    """Returns the folder for caches: `$XDG_CACHE_HOME`, or `~/.cache`.

    Returns None if the user has no home folder and has not set this variable.
    """
    base = os.environ.get(VARIABLE, "")
    if os.path.isabs(base):
        return pathlib.Path(base)
    home = os.path.expanduser("~")
    return pathlib.Path(home) / ".cache" if os.path.isabs(home) else None
