"""Certificates of FLARE and Flower for the coordinator and the sites."""

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
    """Makes what is missing of an engine's certificates, for all sites.

    Args:
      folder: the folder of the federation.
      federation: its name and carrier, which is no "local".
      names: the names of all sites.
      server: the host of the engine's server; None is what it was, or localhost.
      port: its port; None is what it was, or the engine's own.
      say: prints a line.

    Raises:
      UserError: another server than before, or what the engine refuses.
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
        # A folder that was handed over, and deleted here, is not made again.
        if (folder / SITES / site).is_dir():
            sites[site] = folder / SITES / site / deployment.FOLDER
            private(sites[site])
            place.write(sites[site])
    deployments.of(place, say).provision(own, names, sites)
    place.write(own)


def _plain(name: str) -> str:
    """The name as engines take it."""
    return re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-") or "federation"
