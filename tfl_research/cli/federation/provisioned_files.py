"""Writes federation.toml, and the folders that are handed over to sites."""

from __future__ import annotations

import os
import pathlib
from typing import NamedTuple, Optional

from tfl_research.cli.federation import site_template
from tfl_research.errors import UserError
from tfl_research.federation import federation_file
from tfl_research.federation.federation_file import (
    CARRIERS,
    LOCAL,
    ROUND_DEADLINE,
    START_DEADLINE,
)
from tfl_research.federation.wire import authentication
from tfl_research.storage.files import atomic

FILE = "federation.toml"
SITES, KEYS = "sites", "keys"
SITE_STATE = "state"
SITE_FILE, SITE_KEY, SITE_SOCKET = "site.toml", "site.key", "site.sock"


class Head(NamedTuple):
    """The beginning of federation.toml, before the tables of further sites.

    Attributes:
      text: the text.
      name: the name of the federation.
      carrier: the carrier of the federation.
      sites: the names of the sites that are in the text.
    """

    text: str
    name: str
    carrier: str
    sites: tuple[str, ...]


def head(
    path: pathlib.Path,
    name: Optional[str],
    carrier: Optional[str],
    round_deadline: Optional[float],
) -> Head:
    """Returns the beginning of federation.toml.

    Args:
      path: the path of the file, which may be missing.
      name, carrier, round_deadline: the name, carrier and round deadline of the
        federation. None takes the value of the file. Without a file, the values are the
        folder's name, "local" and the default deadline.

    Raises:
      UserError: a value does not fit, or contradicts the file.
    """
    if carrier is not None and carrier not in CARRIERS:
        raise UserError(f"--carrier={carrier}: must be one of {', '.join(CARRIERS)}")
    if not path.exists():
        carrier = carrier or LOCAL
        title = path.parent.name if name is None else name
        return Head(_new_head(title, carrier, round_deadline), title, carrier, ())
    file = federation_file.read(path)
    differing = {
        "name": (name, file.name),
        "carrier": (carrier, file.carrier),
        "round_deadline": (round_deadline, file.round_deadline),
    }
    for flag, (given, present) in differing.items():
        if given is not None and given != present:
            raise UserError(
                f"--{flag}={given}: {path} says {present}; leave the flag out, or "
                "change the file by hand"
            )
    text = path.read_text(encoding="utf-8")
    return Head(text, file.name, file.carrier, file.site_names)


def _new_head(
    name: str,
    carrier: str,
    round_deadline: Optional[float],
) -> str:
    if round_deadline is not None and not round_deadline > 0:
        raise UserError(f"--round_deadline={round_deadline:g}: must be above 0")
    deadline = ROUND_DEADLINE if round_deadline is None else round_deadline
    return f"""\
# The coordinator's list of sites. Relative paths start at the folder of this file. Keep
# the keys in {KEYS}/ secret: whoever has a site's key can send messages in its name.
[federation]
name = {site_template.quoted(name)}
# What carries messages: local, flare or flower.
carrier = "{carrier}"
# Seconds after which a round goes on without the sites that have not answered.
round_deadline = {deadline!r}
# Seconds in which a site must read its data and compile its work, when a run begins.
start_deadline = {START_DEADLINE!r}
"""


def table(site: str, carrier: str) -> str:
    """Makes the table of a site in federation.toml."""
    lines = ["", "[[site]]", f'name = "{site}"', f'key = "{KEYS}/{site}.key"']
    if carrier == LOCAL:
        lines.append(f'socket = "{SITES}/{site}/{SITE_SOCKET}"')
    return "\n".join([*lines, ""])


def private(folder: pathlib.Path) -> None:
    """Makes a folder that others cannot enter.

    Raises:
      UserError: the folder cannot be made, or others can enter it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror})") from None
    if folder.stat().st_mode & 0o077:
        raise UserError(
            f"{folder}: others can enter this folder, which holds keys; chmod 700 it"
        )


def site_folder(folder: pathlib.Path, site: str, label_column: str) -> pathlib.Path:
    """Makes the folder to hand over to a site, with its key and site.toml.

    A key without a table in federation.toml comes from an interrupted call. This key
    was not handed over yet.
    """
    key = folder / KEYS / f"{site}.key"
    own = folder / SITES / site
    private(own)
    if not key.exists():
        authentication.make_key(key)
    content, copy = key.read_bytes(), own / SITE_KEY
    if not os.path.lexists(copy):
        atomic.write(copy, content, mode=0o600)
    elif authentication.read_key(copy) != authentication.read_key(key):
        raise UserError(
            f"--sites={site}: {copy} and {key} are different keys; move the key that "
            "nobody uses away"
        )
    if not (own / SITE_FILE).exists():
        text = site_template.text(site, label_column)
        atomic.write(own / SITE_FILE, text.encode(), mode=0o600)
    return own
