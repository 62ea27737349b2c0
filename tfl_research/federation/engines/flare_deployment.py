"""FLARE as the carrier of a federation: startup kits, processes, the relay's job."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Optional

from tfl_research.errors import UserError
from tfl_research.federation.engines import (
    certificates,
    environments,
    flare,
    flare_job,
    processes,
)
from tfl_research.federation.engines.deployment import (
    SECONDS_TO_START,
    Deployment,
    Relay,
    Say,
)
from tfl_research.storage.files import atomic

# Python can wait for a process for 24 days at most.
_LONGEST_JOB_SECONDS = 14 * 86400.0


class FlareDeployment(Deployment):
    """FLARE: see `Deployment`."""

    def provision(
        self,
        folder: pathlib.Path,
        names: Sequence[str],
        sites: Mapping[str, pathlib.Path],
    ) -> None:
        targets = {
            "server": folder / "server",
            "administrator": folder / "administrator",
            **{name: own / "kit" for name, own in sites.items()},
        }
        missing = [name for name, target in targets.items() if not target.exists()]
        if not missing:
            return
        kits = flare.provision(
            self._environment,
            folder / "authority",
            name=self._place.federation,
            sites=list(names),
            server=self._place.server,
            port=self._place.port,
        )
        for name in missing:
            _copy(kits[name], targets[name])

    def server(
        self,
        folder: pathlib.Path,
        socket: pathlib.Path,
        sites: Sequence[str],
        started: processes.Processes,
        job: Optional[pathlib.Path] = None,
    ) -> Relay:
        kit, administrator = folder / "server", folder / "administrator"
        self._check(
            kit / "startup" / "server.crt",
            kit / "startup" / "rootCA.pem",
            administrator / "startup" / "client.crt",
        )
        flare.prepare_kit(kit, socket=socket, is_server=True)
        server = flare.start_server(self._environment, kit)
        started.add(server)
        job = job or flare_job.write_relay(folder / "relay")
        return _FlareRelay(
            self._environment, administrator, job, sites, server, self._say
        )

    def site(
        self,
        folder: pathlib.Path,
        name: str,
        socket: pathlib.Path,
        started: processes.Processes,
    ) -> None:
        startup = folder / "kit" / "startup"
        self._check(startup / "client.crt", startup / "rootCA.pem")
        flare.prepare_kit(folder / "kit", socket=socket)
        started.add(flare.start_site(self._environment, folder / "kit", name))

    def _check(self, *paths: pathlib.Path) -> None:
        certificates.check(self._environment, paths, self._say)


class _FlareRelay(Relay):
    """The relay as a job of FLARE, which gives a running job to no further site."""

    def __init__(
        self,
        environment: environments.Environment,
        administrator: pathlib.Path,
        job: pathlib.Path,
        sites: Sequence[str],
        server: processes.Process,
        say: Say,
    ):
        self._environment, self._administrator = environment, administrator
        self._job, self._sites, self._server, self._say = job, sites, server, say
        self._number = ""
        self._connected: set[str] = set()
        self._last = administrator / "last_job"

    def start(self) -> None:
        end = time.monotonic() + SECONDS_TO_START
        connected: set[str] = set()
        while not connected >= set(self._sites):
            self._server.check()
            if time.monotonic() > end:
                away = ", ".join(sorted(set(self._sites) - connected))
                if not connected:
                    raise UserError(
                        f"no site has connected to FLARE's server in "
                        f"{SECONDS_TO_START:g} s; start scripts/federation carry "
                        "--config=site.toml at the sites"
                    )
                self._say(
                    f"{self._job.name} starts without site {away}; the job begins "
                    "again when the site connects"
                )
                break
            time.sleep(0.5)
            # The server may not be up yet.
            with contextlib.suppress(UserError):
                connected = self._names()
        self._submit(connected)

    def look(self) -> None:
        connected = self._names()
        come, gone = connected - self._connected, self._connected - connected
        if gone:
            self._say(f"site {', '.join(sorted(gone))} is no longer connected")
        if come:
            self._say(
                f"site {', '.join(sorted(come))} connected: the job begins again, "
                "because FLARE adds no site to a running job; the coordinator repeats "
                "its open requests"
            )
            self._ask("abort", self._number)
            self._submit(connected)
        self._connected = connected

    def finish(self) -> str:
        status = self._ask("wait", self._number, seconds=_LONGEST_JOB_SECONDS)
        folder = self._ask("download", self._number)
        return f"FLARE's job {self._number}: {status}; its result is in {folder}"

    def _submit(self, connected: set[str]) -> None:
        self._connected = connected
        if not self._number and self._last.exists():
            # FLARE goes on with a job that was running when its server was killed.
            # A job that has ended cannot be aborted.
            with contextlib.suppress(UserError):
                self._ask("abort", self._last.read_text(encoding="ascii"))
        self._number = self._ask("submit", str(self._job))
        atomic.write(self._last, self._number.encode("ascii"), mode=0o600)
        self._say(f"FLARE runs {self._job.name} as the job {self._number}")

    def _names(self) -> set[str]:
        return set(self._ask("sites").split())

    def _ask(self, command: str, argument: str = "", seconds: float = 120.0) -> str:
        return flare.ask_server(
            self._environment, self._administrator, command, argument, seconds=seconds
        )


def _copy(kit: pathlib.Path, target: pathlib.Path) -> None:
    """Copies a kit so that only the owner can enter; a partial copy is never left."""
    part = target.with_name(target.name + ".tmp")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(kit, part)
    part.chmod(0o700)
    part.rename(target)
