"""Certificates and processes of an engine that carries a federation's messages.

A federation's folder gets `engine/`, for the person who runs the engine's server. Each
site's folder also gets `engine/`. Both have a `Place`.
"""

from __future__ import annotations

import abc
import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Optional

from tfl_research.errors import UserError
from tfl_research.federation.engines import environments, processes
from tfl_research.storage.files import atomic

FOLDER = "engine"
_PLACE_FILE = "engine.json"
_LOOPBACK = "localhost"
SECONDS_TO_START = 120.0
# The default port of each engine's server.
PORTS = {"flare": 8002, "flower": 8000}
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Place:
    """The address of an engine's server.

    Attributes:
      engine: "flare" or "flower".
      federation: the federation's name: letters, digits, "-" and "_".
      server: the host under which sites reach the server. "localhost" listens on the
        loopback interface alone.
      port: the port of the server.
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
          UserError: the file does not exist, or has another form.
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
        if place.engine not in PORTS:
            raise UserError(
                f"{path}: engine must be one of {', '.join(PORTS)}, got "
                f"{place.engine!r}"
            )
        return place


class Relay(abc.ABC):
    """An engine's job: our relay, or a job in which the engine averages.

    The relay moves bytes between the engine's server and the coordinator.
    """

    @abc.abstractmethod
    def start(self) -> None:
        """Starts the relay when the sites have connected, or some after two minutes.

        Raises:
          UserError: no site has connected.
        """

    @abc.abstractmethod
    def look(self) -> None:
        """Adds sites that have connected since; call this from time to time."""

    @abc.abstractmethod
    def finish(self) -> str:
        """Waits until a job has ended; prints how it ended, and where its result is."""


class Deployment(abc.ABC):
    """Provisions and runs an engine.

    Args:
      place: the address of the engine's server.
      say: prints a line.
      insecure: whether there is no TLS and no authentication of sites; only for Flower,
        and only for tests.

    Raises:
      UserError: FLARE is insecure, or the environment cannot be made.
    """

    def __init__(self, place: Place, say: Say, *, insecure: bool = False):
        if insecure and place.engine != "flower":
            raise UserError(
                f"--insecure: {place.engine} always has TLS and certificates; leave "
                "--insecure out"
            )
        self._place, self._say, self._insecure = place, say, insecure
        self._environment = environments.ensure(place.engine, say=say)

    @abc.abstractmethod
    def provision(
        self,
        folder: pathlib.Path,
        names: Sequence[str],
        sites: Mapping[str, pathlib.Path],
    ) -> None:
        """Makes missing certificates and keys.

        Args:
          folder: the folder of the engine's server.
          names: the names of all sites of the federation.
          sites: by site, the engine's folders for the sites with folders on this
            machine.
        """

    @abc.abstractmethod
    def server(
        self,
        folder: pathlib.Path,
        socket: pathlib.Path,
        sites: Sequence[str],
        started: processes.Processes,
        job: Optional[pathlib.Path] = None,
    ) -> Relay:
        """Starts the server.

        Args:
          folder: the folder of the engine's server.
          socket: the socket of the coordinator.
          sites: the names of the sites.
          started: holds the started processes.
          job: the folder of a job in which the engine averages; None for our relay.

        Returns:
          The relay at the server; start it after the sites have started.
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
