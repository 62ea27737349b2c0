"""`scripts/federation environments|carry`: FLARE and Flower as carriers."""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, Optional

from tfl_research.errors import UserError
from tfl_research.federation import federation_file, toml_file
from tfl_research.federation.engines import (
    deployment,
    deployments,
    environments,
    processes,
)
from tfl_research.federation.site import site_file
from tfl_research.storage.files import user_paths

_LOOK_SECONDS = 0.5
# Asking FLARE which sites are connected starts a process.
_SITES_SECONDS = 20.0


def add_parsers(commands: Any) -> None:
    """Adds the parsers of the commands to what `add_subparsers` gave."""
    made = commands.add_parser(
        "environments",
        help="make the environment of FLARE or Flower, without TensorFlow",
        allow_abbrev=False,
    )
    made.add_argument("--engine", required=True, help="flare or flower")
    made.set_defaults(run=_environment)
    carry = commands.add_parser(
        "carry",
        help="run the engine's server (federation.toml), or a site's node (site.toml)",
        description="Carries messages by FLARE or Flower until Ctrl-C or SIGTERM: "
        "with federation.toml the engine's server and the coordinator's relay, with "
        "site.toml the engine's process beside scripts/site.",
        allow_abbrev=False,
    )
    carry.add_argument(
        "--config", metavar="FILE", required=True, help="federation.toml or site.toml"
    )
    carry.add_argument(
        "--job",
        metavar="FOLDER",
        help="with federation.toml: run this job or app of scripts/federation export "
        "instead of the relay, until the job ends",
    )
    carry.add_argument(
        "--insecure",
        action="store_true",
        help="Flower without TLS and keys, for tests on one machine; prints a warning",
    )
    carry.set_defaults(run=_carry)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _environment(arguments: argparse.Namespace) -> int:
    made = environments.ensure(arguments.engine, say=_say)
    _say(f"{made.folder}: the environment of {arguments.engine}")
    return 0


class _Ended(Exception):
    """SIGINT or SIGTERM came."""


def _raise(number: int, frame: Optional[FrameType]) -> None:
    raise _Ended


def _carry(arguments: argparse.Namespace) -> int:
    path = user_paths.expanded(arguments.config).absolute()
    tables = toml_file.read(path)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _raise)
    with contextlib.suppress(_Ended), processes.Processes() as started:
        relay = None
        if "federation" in tables:
            file = federation_file.read(path)
            job = None
            if arguments.job is not None:
                job = user_paths.expanded(arguments.job).absolute()
            relay = _start_server(file, started, job, arguments.insecure)
            if job is not None:
                _say(relay.finish())
                return 0
        elif "site" in tables:
            _start_site(site_file.SiteFile.read(path), started, arguments.insecure)
        else:
            raise UserError(
                f"--config={arguments.config}: must be a federation.toml or a "
                "site.toml, but it has no table [federation] or [site]"
            )
        next_look = time.monotonic() + _SITES_SECONDS
        while True:
            started.check()
            time.sleep(_LOOK_SECONDS)
            if relay is not None and time.monotonic() > next_look:
                relay.look()
                next_look = time.monotonic() + _SITES_SECONDS
    return 0


def _start_server(
    file: federation_file.FederationFile,
    started: processes.Processes,
    job: Optional[pathlib.Path],
    insecure: bool,
) -> deployment.Relay:
    if file.carrier == federation_file.LOCAL:
        raise UserError(
            f"{file.path}: the carrier is local, which needs no server; start the "
            "sites with scripts/site, and the run itself"
        )
    folder = file.folder / deployment.FOLDER
    place = deployment.Place.read(folder)
    if job is not None and not job.is_dir():
        raise UserError(
            f"--job={job}: no such folder; scripts/federation export makes one"
        )
    relay = deployments.of(place, _say, insecure=insecure).server(
        folder, file.coordinator_socket, file.site_names, started, job
    )
    _say(f"{place.engine}'s server listens at {place.server}:{place.port}")
    relay.start()
    return relay


def _start_site(
    file: site_file.SiteFile, started: processes.Processes, insecure: bool
) -> None:
    folder = file.path.parent / deployment.FOLDER
    place = deployment.Place.read(folder)
    deployments.of(place, _say, insecure=insecure).site(
        folder, file.name, file.socket, started
    )
    _say(f"site {file.name} connects to {place.server}:{place.port}")


@contextlib.contextmanager
def carrying(
    file: federation_file.FederationFile, sites: dict[str, pathlib.Path]
) -> Iterator[None]:
    """Runs the server, the relay, and the nodes of sites on this machine.

    Args:
      file: the federation; its carrier is not "local".
      sites: the folder of each site.
    """
    folder = file.folder / deployment.FOLDER
    deployed = deployments.of(deployment.Place.read(folder), _say)
    with processes.Processes() as started:
        relay = deployed.server(
            folder, file.coordinator_socket, file.site_names, started
        )
        for name, own in sites.items():
            deployed.site(own / deployment.FOLDER, name, own / "site.sock", started)
        relay.start()
        yield
