"""`scripts/federation provision`: keys, federation.toml, and a folder for each site."""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
from typing import Any, Optional

from tfl_research.cli.federation import site_template
from tfl_research.cli.federation.names import site_names
from tfl_research.errors import UserError
from tfl_research.federation import authentication, federation_file
from tfl_research.federation.federation_file import CARRIERS, LOCAL
from tfl_research.storage import atomic

FILE = "federation.toml"
SITES, KEYS = "sites", "keys"
SITE_FILE, SITE_KEY, SITE_SOCKET = "site.toml", "site.key", "site.sock"


def add_parser(commands: Any) -> None:
    """Adds the parser of the command to what `add_subparsers` gave."""
    parser = commands.add_parser(
        "provision",
        help="make keys, federation.toml, and a folder to hand over to each site",
        description="Makes a key for each site, federation.toml for the coordinator, "
        "and FOLDER/sites/NAME to hand over to each site. A second call adds sites.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--sites", required=True, metavar="NAMES", help="names, separated by commas"
    )
    parser.add_argument(
        "--folder", required=True, help="of the federation, new or to add sites to"
    )
    parser.add_argument("--name", help="of the federation (default: the folder's name)")
    parser.add_argument(
        "--carrier",
        help=f"what carries messages: {', '.join(CARRIERS)} (default: {LOCAL}, sockets "
        "of this machine)",
    )
    parser.add_argument(
        "--round_deadline",
        type=float,
        metavar="SECONDS",
        help="go on without sites that have not answered (default: the run's)",
    )
    parser.add_argument(
        "--minimum_clients",
        type=int,
        help="abandon a round of fewer clients (default: the run's)",
    )
    parser.add_argument(
        "--label_column", default="", help="column of the label, for site.toml"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    names = site_names("--sites", arguments.sites)
    folder = pathlib.Path(arguments.folder).expanduser().absolute()
    written = provision(
        folder,
        names,
        name=arguments.name,
        carrier=arguments.carrier,
        round_deadline=arguments.round_deadline,
        minimum_clients=arguments.minimum_clients,
        label_column=arguments.label_column,
    )
    sys.stdout.write(f"{folder / FILE}: for the coordinator\n")
    for path in written:
        sys.stdout.write(f"{path}: hand it over to the site, over a safe channel\n")
    sys.stdout.write(
        f"Each site fills in [data] of its {SITE_FILE} and runs: scripts/site "
        f"--config={SITE_FILE}\n"
    )
    return 0


def provision(
    folder: pathlib.Path,
    names: tuple[str, ...],
    *,
    name: Optional[str] = None,
    carrier: Optional[str] = None,
    round_deadline: Optional[float] = None,
    minimum_clients: Optional[int] = None,
    label_column: str = "",
) -> list[pathlib.Path]:
    """Makes a federation, or adds sites to it; an interrupted call can be repeated.

    Args:
      folder: of the federation.
      names: of the sites to add.
      name: of the federation; None is the folder's name.
      carrier: one of `CARRIERS`; None is that of the federation, or "local".
      round_deadline: see `FederationFile`, as the next one; for a new federation.
      minimum_clients: see `FederationFile`.
      label_column: for the site.toml of the sites, "" if unknown.

    Returns:
      The folders to hand over.

    Raises:
      UserError: a site that has its key, or a federation of another carrier or name.
    """
    path = folder / FILE
    text, known, carrier = _head(path, name, carrier, round_deadline, minimum_clients)
    for site in names:
        if site in known:
            raise UserError(
                f"--sites={site}: {path} has this site, and its key is in "
                f"{folder / KEYS / f'{site}.key'}; leave the site out: a new key would "
                "lock the site out. For a new key, remove the site's table and the "
                "files of both keys first"
            )
    for each in (folder, folder / KEYS, folder / SITES):
        _private(each)
    handed_over = []
    for site in names:
        handed_over.append(_site(folder, site, label_column))
        text += _table(site, carrier)
    try:
        atomic.write(path, text.encode(), mode=0o600)
        federation_file.read(path).keys()
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None
    return handed_over


def _head(
    path: pathlib.Path,
    name: Optional[str],
    carrier: Optional[str],
    round_deadline: Optional[float],
    minimum_clients: Optional[int],
) -> tuple[str, tuple[str, ...], str]:
    """What federation.toml begins with, the sites that are in it, and the carrier."""
    if carrier is not None and carrier not in CARRIERS:
        raise UserError(f"--carrier={carrier}: must be one of {', '.join(CARRIERS)}")
    if not path.exists():
        carrier = carrier or LOCAL
        title = path.parent.name if name is None else name
        return (
            _new_head(title, carrier, round_deadline, minimum_clients),
            (),
            carrier,
        )
    file = federation_file.read(path)
    differing = {
        "name": (name, file.name),
        "carrier": (carrier, file.carrier),
        "round_deadline": (round_deadline, file.round_deadline),
        "minimum_clients": (minimum_clients, file.minimum_clients),
    }
    for flag, (given, present) in differing.items():
        if given is not None and given != present:
            raise UserError(
                f"--{flag}={given}: {path} says {present}; leave the flag out, or "
                "change the file by hand"
            )
    return path.read_text(encoding="utf-8"), file.site_names, file.carrier


def _new_head(
    name: str,
    carrier: str,
    round_deadline: Optional[float],
    minimum_clients: Optional[int],
) -> str:
    if round_deadline is not None and not round_deadline > 0:
        raise UserError(f"--round_deadline={round_deadline:g}: must be above 0")
    if minimum_clients is not None and minimum_clients < 1:
        raise UserError(f"--minimum_clients={minimum_clients}: must be at least 1")
    deadline = "600.0" if round_deadline is None else repr(round_deadline)
    least = "1" if minimum_clients is None else repr(minimum_clients)
    off = ["# " if value is None else "" for value in (round_deadline, minimum_clients)]
    return f"""\
# The coordinator's list of sites. Paths start at this file's folder. The keys in
# {KEYS}/ must stay secret: whoever has a site's key can speak for the site.
[federation]
name = {site_template.quoted(name)}
# What carries messages: local, flare or flower.
carrier = "{carrier}"
# Seconds after which a round goes on without the sites that have not answered.
{off[0]}round_deadline = {deadline}
# A round of fewer clients is abandoned.
{off[1]}minimum_clients = {least}
"""


def _table(site: str, carrier: str) -> str:
    lines = ["", "[[site]]", f'name = "{site}"', f'key = "{KEYS}/{site}.key"']
    if carrier == LOCAL:
        lines.append(f'socket = "{SITES}/{site}/{SITE_SOCKET}"')
    return "\n".join([*lines, ""])


def _private(folder: pathlib.Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror})") from None
    if folder.stat().st_mode & 0o077:
        raise UserError(
            f"{folder}: others may enter this folder, in which keys are; chmod 700 it"
        )


def _site(folder: pathlib.Path, site: str, label_column: str) -> pathlib.Path:
    """The folder to hand over to a site, with its key and site.toml.

    A key without a table in federation.toml is of a call that was interrupted: nobody
    has got that key.
    """
    key = folder / KEYS / f"{site}.key"
    own = folder / SITES / site
    _private(own)
    if not key.exists():
        authentication.make_key(key)
    if authentication.read_key(key) != _key_at(own / SITE_KEY):
        atomic.write(own / SITE_KEY, key.read_bytes(), mode=0o600)
    if not (own / SITE_FILE).exists():
        content = site_template.text(site, label_column)
        atomic.write(own / SITE_FILE, content.encode(), mode=0o600)
    return own


def _key_at(path: pathlib.Path) -> Optional[bytes]:
    """The key in a file, or None without the file; UserError if the key is another's.

    Raises:
      UserError: no key is in the file.
    """
    return authentication.read_key(path) if os.path.lexists(path) else None
