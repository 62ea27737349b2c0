"""Makes certificates of FLARE and Flower for the coordinator and the sites."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Optional

from tfl_research.cli.federation.provisioned_files import SITES, Head, private
from tfl_research.errors import UserError
from tfl_research.federation.engines import deployment, deployments


def provision_engine(
    folder: pathlib.Path,
    federation: Head,
    names: Sequence[str],
    server: Optional[str],
    port: Optional[int],
    say: Callable[[str], None],
) -> None:
    """Makes the missing certificates of an engine, for all sites.

    Args:
      folder: the folder of the federation.
      federation: its name and carrier; the carrier is not "local".
      names: the names of all sites.
      server: the host of the engine's server; None keeps the host, by default
        localhost.
      port: the server's port; None keeps the port, by default the engine's default.
      say: prints a line.

    Raises:
      UserError: the server differs from the earlier server, or the engine refuses a
        value.
    """
    own = folder / deployment.FOLDER
    private(own)
    if (own / "engine.json").exists():
        place = deployment.Place.read(own)
        for flag, value, present in (
            ("server", server, place.server),
            ("port", port, place.port),
        ):
            if value is not None and value != present:
                raise UserError(
                    f"--{flag}={value}: the certificates are for {present}; leave the "
                    "flag out, or make a new federation"
                )
    else:
        place = deployment.Place(
            federation.carrier,
            _plain(federation.name),
            server or "localhost",
            port or deployment.PORTS[federation.carrier],
        )
    sites = {}
    for site in names:
        # A folder that was handed over and deleted here is not made again.
        if (folder / SITES / site).is_dir():
            sites[site] = folder / SITES / site / deployment.FOLDER
            private(sites[site])
            place.write(sites[site])
    deployments.of(place, say).provision(own, names, sites)
    place.write(own)


def _plain(name: str) -> str:
    """Converts a name to the form that engines accept."""
    return re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-") or "federation"
