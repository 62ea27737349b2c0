"""Flower as the carrier of a federation: keys, processes, the relay's app."""

from __future__ import annotations

import contextlib
import pathlib
import socket as sockets
import time
from collections.abc import Mapping, Sequence
from typing import Optional

from tfl_research.errors import UserError
from tfl_research.federation.engines import (
    certificates,
    flower,
    flower_app,
    processes,
)
from tfl_research.federation.engines.deployment import (
    SECONDS_TO_START,
    Deployment,
    Relay,
    Say,
)
from tfl_research.storage.files import atomic

_LOOK_SECONDS = 2.0
# Flower's message if a site's key was registered before.
_REGISTERED = "already in use"


class FlowerDeployment(Deployment):
    """Flower: see `Deployment`."""

    def provision(
        self,
        folder: pathlib.Path,
        names: Sequence[str],
        sites: Mapping[str, pathlib.Path],
    ) -> None:
        keys = folder / "keys"
        flower.provision(
            self._environment, keys, sites=list(names), server=self._place.server
        )
        for name, own in sites.items():
            for source, target in ((f"{name}.key", "site.key"), ("ca.crt", "ca.crt")):
                if not (own / target).exists():
                    content = (keys / source).read_bytes()
                    atomic.write(own / target, content, mode=0o600)

    def server(
        self,
        folder: pathlib.Path,
        socket: pathlib.Path,
        sites: Sequence[str],
        started: processes.Processes,
        job: Optional[pathlib.Path] = None,
    ) -> Relay:
        keys = folder / "keys"
        self._check(keys / "server.crt", keys / "ca.crt")
        superlink = flower.SuperLink(
            self._environment,
            keys,
            folder / "superlink",
            host="127.0.0.1" if self._place.is_local else "0.0.0.0",
            port=self._place.port,
            insecure=self._insecure,
            say=self._say,
        )
        started.add(superlink.process)
        _wait_for_port(self._place.port, superlink.process)
        for name in () if self._insecure else sites:
            # A SuperNode whose key is not registered yet would give up.
            try:
                superlink.register(name)
            except UserError as error:
                if _REGISTERED not in str(error):
                    raise

        settings: dict[str, object] = {}
        if job is None:
            job = flower_app.write_relay(folder / "relay")
            settings = {"coordinator-socket": str(socket), "minimum-sites": 1}
        return _FlowerRelay(superlink, job, settings, self._say)

    def site(
        self,
        folder: pathlib.Path,
        name: str,
        socket: pathlib.Path,
        started: processes.Processes,
    ) -> None:
        self._check(folder / "ca.crt")
        started.add(
            flower.start_site(
                self._environment,
                name=name,
                key=folder / "site.key",
                authority=folder / "ca.crt",
                socket=socket,
                folder=folder / "supernode",
                superlink=f"{self._place.server}:{self._place.port}",
                port=_free_port(),
                insecure=self._insecure,
            )
        )

    def _check(self, *paths: pathlib.Path) -> None:
        if not self._insecure:
            certificates.check(self._environment, paths, self._say)


class _FlowerRelay(Relay):
    """The relay as a run of Flower; sites take part as soon as they connect."""

    def __init__(
        self,
        superlink: flower.SuperLink,
        app: pathlib.Path,
        settings: Mapping[str, object],
        say: Say,
    ):
        self._superlink, self._app, self._settings = superlink, app, settings
        self._say = say
        self._number = ""

    def start(self) -> None:
        self._number = self._superlink.run(self._app, self._settings)
        self._say(f"Flower runs {self._app.name} as the run {self._number}")

    def look(self) -> None:
        pass

    def finish(self) -> str:
        status = "running"
        while not status.startswith("finished"):
            time.sleep(_LOOK_SECONDS)
            self._superlink.process.check()
            status = self._superlink.status(self._number)
        return f"Flower's run {self._number}: {status}; its result is in {self._app}"


def _free_port() -> int:
    """Finds a free port of the loopback interface, as several SuperNodes may run."""
    with sockets.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_port(port: int, process: processes.Process) -> None:
    """Waits until the process listens at a port of this machine."""
    end = time.monotonic() + SECONDS_TO_START
    while True:
        process.check()
        with (
            contextlib.suppress(OSError),
            sockets.create_connection(("127.0.0.1", port), 1.0),
        ):
            return
        if time.monotonic() > end:
            raise UserError(
                f"{process.name} does not listen at port {port} after "
                f"{SECONDS_TO_START:g} s; its log is {process.log}"
            )
        time.sleep(0.2)
