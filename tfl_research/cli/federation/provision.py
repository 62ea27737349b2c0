"""`scripts/federation provision`: keys, federation.toml, and a folder for each site."""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Callable
from typing import Any, Optional

from tfl_research.cli.federation.names import site_names
from tfl_research.cli.federation.provisioned_engine import provision_engine
from tfl_research.cli.federation.provisioned_files import (
    FILE,
    KEYS,
    SITE_FILE,
    SITES,
    head,
    private,
    site_folder,
    table,
)
from tfl_research.errors import UserError
from tfl_research.federation import federation_file
from tfl_research.federation.federation_file import CARRIERS, LOCAL
from tfl_research.storage.files import atomic, user_paths


def add_parser(commands: Any) -> None:
    """Adds the parser of the command to what `add_subparsers` gave."""
    parser = commands.add_parser(
        "provision",
        help="make keys, federation.toml, and a folder to hand over to each site",
        description="Makes a key for each site, federation.toml for the coordinator, "
        "and for each site a folder FOLDER/sites/NAME, which you give to the site. A "
        "second call adds sites.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--sites", required=True, metavar="NAMES", help="sites, separated by commas"
    )
    parser.add_argument(
        "--folder", required=True, help="folder of the federation, new or existing"
    )
    parser.add_argument(
        "--name", help="name of the federation (default: the folder's name)"
    )
    parser.add_argument(
        "--carrier",
        help=f"how messages travel: {', '.join(CARRIERS)} (default: {LOCAL}, sockets "
        "of this machine)",
    )
    parser.add_argument(
        "--round_deadline",
        type=float,
        metavar="SECONDS",
        help="seconds after which a round goes on without sites that do not answer "
        "(default: 600)",
    )
    parser.add_argument(
        "--label_column", default="", help="column of the label, for site.toml"
    )
    parser.add_argument(
        "--server",
        help="host at which sites reach FLARE's or Flower's server; with localhost, "
        "the default, the server listens only on this machine; with any other "
        "host, on all interfaces",
    )
    parser.add_argument(
        "--port", type=int, help="port of the server (default: flare 8002, flower 8000)"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    names = site_names("--sites", arguments.sites)
    folder = user_paths.expanded(arguments.folder).absolute()
    written = provision(
        folder,
        names,
        name=arguments.name,
        carrier=arguments.carrier,
        round_deadline=arguments.round_deadline,
        label_column=arguments.label_column,
        server=arguments.server,
        port=arguments.port,
        say=_say,
    )
    sys.stdout.write(f"{folder / FILE}: for the coordinator\n")
    for path in written:
        sys.stdout.write(f"{path}: give this folder to the site over a safe channel\n")
    sys.stdout.write(
        f"Each site fills in [data] of its {SITE_FILE} and runs: scripts/site "
        f"--config={SITE_FILE}\n"
    )
    if federation_file.read(folder / FILE).carrier != LOCAL:
        sys.stdout.write(
            "In addition, each site runs: scripts/federation carry "
            f"--config={SITE_FILE}; the coordinator runs: scripts/federation carry "
            f"--config={FILE}\n"
        )
    return 0


def provision(
    folder: pathlib.Path,
    names: tuple[str, ...],
    *,
    name: Optional[str] = None,
    carrier: Optional[str] = None,
    round_deadline: Optional[float] = None,
    label_column: str = "",
    server: Optional[str] = None,
    port: Optional[int] = None,
    say: Callable[[str], None] = print,
) -> list[pathlib.Path]:
    """Makes a federation, or adds sites to it; an interrupted call can be repeated.

    Args:
      folder: the folder of the federation.
      names: the sites to add.
      name: the name of the federation; None is the folder's name.
      carrier: one of `CARRIERS`; None keeps the federation's carrier, which is "local"
        for a new federation.
      round_deadline: see `FederationFile`; for a new federation.
      label_column: the label column in the sites' site.toml, "" if unknown.
      server: the host of FLARE's or Flower's server; None keeps the host, which is
        localhost for a new federation.
      port: the server's port; None keeps the port, or takes the engine's default.
      say: prints a line.

    Returns:
      The folders to hand over.

    Raises:
      UserError: a site already has a key, or the federation has another carrier or
        name.
    """
    path = folder / FILE
    federation = head(path, name, carrier, round_deadline)
    for site in names:
        if site in federation.sites:
            raise UserError(
                f"--sites={site}: {path} already has this site, and its key is in "
                f"{folder / KEYS / f'{site}.key'}; leave the site out, because a new "
                "key would lock the site out. For a new key, remove the site's table "
                "and the files of both keys first"
            )
    for flag, value in (("server", server), ("port", port)):
        if value is not None and federation.carrier == LOCAL:
            raise UserError(
                f"--{flag}={value}: the carrier local opens no port; leave it out"
            )
    for each in (folder, folder / KEYS, folder / SITES):
        private(each)
    handed_over = [site_folder(folder, site, label_column) for site in names]
    if federation.carrier != LOCAL:
        everybody = (*federation.sites, *names)
        provision_engine(folder, federation, everybody, server, port, say)
    tables = [table(site, federation.carrier) for site in names]
    # This comes last, so that an interrupted call can be repeated.
    try:
        atomic.write(path, "".join([federation.text, *tables]).encode(), mode=0o600)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); free space, or make the "
            "folder writable"
        ) from None
    federation_file.read(path).keys()
    return handed_over


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
