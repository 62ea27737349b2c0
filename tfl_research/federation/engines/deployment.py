"""Certificates and processes of an engine that carries a federation's messages.

A federation's folder gets `engine/`, for whoever runs the engine's server, and each
site's folder gets an `engine/` of its own. `Place` is what both know.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import json
import pathlib
import shutil
import socket as socketlib
import time
from collections.abc import Callable, Mapping, Sequence

from tfl_research.errors import UserError
from tfl_research.federation.engines import (
    environments,
    flare,
    flare_job,
    flower,
    flower_app,
    processes,
)
from tfl_research.storage import atomic

FOLDER = "engine"
_PLACE_FILE = "engine.json"
_LOOPBACK = "localhost"
_SECONDS_TO_START = 120.0
# What Flower says of a site that was let in before.
_REGISTERED = "already in use"
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an engine's server is.

    Attributes:
      engine: "flare" or "flower".
      federation: the federation's name: letters, digits, "-" and "_".
      server: the host under which sites reach the server. "localhost" listens on the
        loopback interface alone.
      port: of the server.
    """

    engine: str
    federation: str
    server: str
    port: int

    @property
    def is_local(self) -> bool:
        """Whether the server listens on the loopback interface alone."""
        return self.server == _LOOPBACK

    def write(self, folder: pathlib.Path) -> None:
        """Writes the place into an engine's folder."""
        text = json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        atomic.write(folder / _PLACE_FILE, text.encode(), mode=0o600)

    @classmethod
    def read(cls, folder: pathlib.Path) -> Place:
        """The place in an engine's folder.

        Raises:
          UserError: no such file, or another form.
        """
        path = folder / _PLACE_FILE
        try:
            place = cls(**json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise UserError(
                f"{path}: cannot be read ({error.strerror}); scripts/federation "
                "provision with --carrier=flare or flower makes it"
            ) from None
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}: is damaged: {error}") from None
        if place.engine not in _DEPLOYMENTS:
            raise UserError(
                f"{path}: engine must be one of {', '.join(_DEPLOYMENTS)}, got "
                f"{place.engine!r}"
            )
        return place


class Deployment(abc.ABC):
    """How an engine is provisioned and run.

    Args:
      place: where the engine's server is.
      say: prints a line.
    """

    def __init__(self, place: Place, say: Say):
        self._place, self._say = place, say
        self._environment = environments.ensure(place.engine, say=say)

    @abc.abstractmethod
    def provision(
        self,
        folder: pathlib.Path,
        names: Sequence[str],
        sites: Mapping[str, pathlib.Path],
    ) -> None:
        """Makes what is missing of certificates and keys.

        Args:
          folder: of the engine's server.
          names: of all sites of the federation.
          sites: by name, the engine's folders of those sites whose folders are here.
        """

    @abc.abstractmethod
    def server(
        self,
        folder: pathlib.Path,
        socket: pathlib.Path,
        sites: Sequence[str],
        started: processes.Processes,
    ) -> Callable[[], None]:
        """Starts the server.

        Args:
          folder: of the engine's server.
          socket: of the coordinator.
          sites: the names of the sites.
          started: takes on the processes that are started.

        Returns:
          Starts the relay, when sites have connected.
        """

    @abc.abstractmethod
    def site(
        self,
        folder: pathlib.Path,
        name: str,
        socket: pathlib.Path,
        started: processes.Processes,
    ) -> None:
        """Starts the engine's process of a site; see `server`."""


class _Flare(Deployment):
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
    ) -> Callable[[], None]:
        kit, administrator = folder / "server", folder / "administrator"
        flare.prepare_kit(kit, socket=socket, is_server=True)
        started.add(flare.start_server(self._environment, kit))

        def start_relay() -> None:
            self._wait_for(administrator, sites, started)
            job = flare_job.write_relay(folder / "relay")
            number = flare.ask_server(
                self._environment, administrator, "submit", str(job)
            )
            self._say(f"FLARE runs the relay as the job {number}")

        return start_relay

    def _wait_for(
        self,
        administrator: pathlib.Path,
        sites: Sequence[str],
        started: processes.Processes,
    ) -> None:
        """Waits for all sites; goes on with some when the time is over."""
        end = time.monotonic() + _SECONDS_TO_START
        while True:
            started.check()
            try:
                printed = flare.ask_server(self._environment, administrator, "sites")
            except UserError as error:
                # The server is not up yet.
                printed, reason = "", str(error)
            else:
                reason = "no site has connected"
            away = sorted(set(sites) - set(printed.split()))
            if not away:
                return
            if time.monotonic() > end:
                if len(away) == len(sites):
                    raise UserError(f"FLARE's server: {reason}")
                self._say(f"the relay starts without {', '.join(away)}")
                return
            time.sleep(0.5)

    def site(
        self,
        folder: pathlib.Path,
        name: str,
        socket: pathlib.Path,
        started: processes.Processes,
    ) -> None:
        flare.prepare_kit(folder / "kit", socket=socket)
        started.add(flare.start_site(self._environment, folder / "kit", name))


class _Flower(Deployment):
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
    ) -> Callable[[], None]:
        superlink = flower.SuperLink(
            self._environment,
            folder / "keys",
            folder / "superlink",
            host="127.0.0.1" if self._place.is_local else "0.0.0.0",
            port=self._place.port,
        )
        started.add(superlink.process)
        _wait_for_port(self._place.port, superlink.process)
        for name in sites:
            # A SuperNode that is not known yet would give up.
            try:
                superlink.register(name)
            except UserError as error:
                if _REGISTERED not in str(error):
                    raise

        def start_relay() -> None:
            app = flower_app.write_relay(folder / "relay")
            number = superlink.run(
                app, {"coordinator-socket": str(socket), "minimum-sites": 1}
            )
            self._say(f"Flower runs the relay as the run {number}")

        return start_relay

    def site(
        self,
        folder: pathlib.Path,
        name: str,
        socket: pathlib.Path,
        started: processes.Processes,
    ) -> None:
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
            )
        )


_DEPLOYMENTS: Mapping[str, type[Deployment]] = {"flare": _Flare, "flower": _Flower}
PORTS = {"flare": 8002, "flower": 8000}


def of(place: Place, say: Say) -> Deployment:
    """The deployment of a place's engine, whose environment is made if it is missing.

    Raises:
      UserError: the environment cannot be made.
    """
    return _DEPLOYMENTS[place.engine](place, say)


def _free_port() -> int:
    """A port of the loopback interface, for a SuperNode beside others."""
    with socketlib.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_port(port: int, process: processes.Process) -> None:
    """Waits until the process listens at a port of this machine."""
    end = time.monotonic() + _SECONDS_TO_START
    while True:
        process.check()
        with (
            contextlib.suppress(OSError),
            socketlib.create_connection(("127.0.0.1", port), 1.0),
        ):
            return
        if time.monotonic() > end:
            raise UserError(
                f"{process.name} does not listen at port {port} after "
                f"{_SECONDS_TO_START:g} s; its log is {process.log}"
            )
        time.sleep(0.2)


def _copy(kit: pathlib.Path, target: pathlib.Path) -> None:
    """A copy of a kit that only the owner can enter; whole, or not there."""
    part = target.with_name(target.name + ".tmp")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(kit, part)
    part.chmod(0o700)
    part.rename(target)
