"""Flower: certificates and keys, the SuperLink, SuperNodes, and runs.

The SuperLink speaks TLS and accepts only SuperNodes with registered public keys; a
stranger without a registered key is refused. Both listen on the loopback interface
unless told otherwise. Flower's own telemetry and search for updates are off.

A Flower app is code that the SuperLink sends to the SuperNodes. So every site must
trust everybody who may start runs. (`--trusted-entities` needs a SuperLink that checks
signatures of apps; the open-source SuperLink does not.) A site that does not want to
run the server's code should use FLARE.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence

from tfl_research import errors
from tfl_research.federation.engines import environments, processes

_RELAYS = pathlib.Path(__file__).with_name("relays")
_QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
_CONNECTION = "federation"


def provision(
    environment: environments.Environment,
    folder: pathlib.Path,
    *,
    sites: Sequence[str],
    server: str = "localhost",
) -> pathlib.Path:
    """Makes certificates of the SuperLink and a key pair of each site.

    Args:
      environment: Flower's environment.
      folder: the folder for `ca.crt`, `ca.key`, `server.crt`, `server.key`, and
        `SITE.key` and `SITE.pub` of each site. Existing files are kept.
      sites: the names of the sites.
      server: the host under which sites reach the SuperLink.

    Returns:
      The folder.

    Raises:
      UserError: the files cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    processes.run(
        "making Flower's certificates",
        [
            str(environment.python),
            str(_RELAYS / "tfl_flower_keys.py"),
            str(folder),
            server,
            *sites,
        ],
        folder=folder,
    )
    return folder


class SuperLink:
    """A running SuperLink, and the operator's commands for it.

    Args:
      environment: Flower's environment.
      keys: the folder of `provision`.
      folder: the folder for state, logs and the connection's settings.
      host: the address to listen on.
      port: the port to listen on.
      insecure: whether there is no TLS and no authentication of SuperNodes; for tests
        on one machine.
      say: prints the warning of `insecure`.

    Attributes:
      process: the SuperLink's process.
    """

    def __init__(
        self,
        environment: environments.Environment,
        keys: pathlib.Path,
        folder: pathlib.Path,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        insecure: bool = False,
        say: Callable[[str], None] = print,
    ):
        if insecure:
            say(
                "warning: --insecure: Flower's SuperLink accepts every SuperNode, and "
                "anybody on the way can read and change the messages"
            )
        self._environment = environment
        self._keys = keys.absolute()
        self._folder = folder.absolute()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._variables = _variables(environment, self._folder / "home")
        trust = (
            ["insecure = true"]
            if insecure
            else [f"root-certificates = {json.dumps(str(self._keys / 'ca.crt'))}"]
        )
        home = pathlib.Path(self._variables["FLWR_HOME"])
        home.mkdir(parents=True, exist_ok=True)
        (home / "config.toml").write_text(
            "\n".join(
                [
                    "[superlink]",
                    f'default = "{_CONNECTION}"',
                    "",
                    f"[superlink.{_CONNECTION}]",
                    f'address = "{host}:{port}"',
                    *trust,
                    "",
                ]
            ),
            encoding="utf-8",
        )
        security = (
            ["--insecure"]
            if insecure
            else [
                "--ssl-certfile",
                str(self._keys / "server.crt"),
                "--ssl-keyfile",
                str(self._keys / "server.key"),
                "--ssl-ca-certfile",
                str(self._keys / "ca.crt"),
                "--enable-supernode-auth",
            ]
        )
        self.process = processes.Process(
            "Flower's SuperLink",
            [
                str(environment.program("flower-superlink")),
                *security,
                "--host",
                host,
                "--port",
                str(port),
                "--database",
                str(self._folder / "state.db"),
                "--disable-runtime-dependency-installation",
            ],
            log=self._folder / "superlink.txt",
            folder=self._folder,
            environment=self._variables,
        )

    def register(self, site: str) -> None:
        """Registers the public key of a site's SuperNode, so that it may connect."""
        self._ask("supernode", "register", str(self._keys / f"{site}.pub"), _CONNECTION)

    def run(self, app: pathlib.Path, settings: Mapping[str, object]) -> str:
        """Starts an app and returns the run's number.

        Args:
          app: the app's folder.
          settings: the app's run configuration: texts, numbers, truth values.
        """
        # A TOML value of these types is written as in JSON.
        config = " ".join(
            f"{key}={json.dumps(value)}" for key, value in settings.items()
        )
        given = ["--run-config", config] if settings else []
        printed = self._ask("run", str(app), _CONNECTION, *given, "--format", "json")
        started = _json(printed)
        if not started.get("run-id"):
            reason = started.get("error-message", printed.strip())
            raise errors.UserError(f"flwr run {app}: {reason}")
        return str(started["run-id"])

    def status(self, run: str) -> str:
        """The run's status as Flower prints it, for example "running"."""
        printed = self._ask("list", "--run-id", run, _CONNECTION, "--format", "json")
        return str(_json(printed)["runs"][0]["status"])

    def stop(self, run: str) -> None:
        """Stops a run."""
        self._ask("stop", run, _CONNECTION)

    def _ask(self, *arguments: str) -> str:
        return processes.run(
            f"flwr {arguments[0]}",
            [str(self._environment.program("flwr")), *arguments],
            folder=self._folder,
            environment=self._variables,
        )


def start_site(
    environment: environments.Environment,
    *,
    name: str,
    key: pathlib.Path,
    authority: pathlib.Path,
    socket: pathlib.Path,
    folder: pathlib.Path,
    superlink: str = "127.0.0.1:8000",
    port: int = 9094,
    insecure: bool = False,
) -> processes.Process:
    """Starts the SuperNode of a site.

    Args:
      environment: Flower's environment.
      name: the site's name.
      key: the site's private key.
      authority: the certificate of the authority that signed the SuperLink's.
      socket: the socket of the site's process.
      folder: the folder for the SuperNode's log and apps.
      superlink: the SuperLink's host and port.
      port: the SuperNode's own port, on the loopback interface.
      insecure: the same value as for the SuperLink.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    socket = socket.absolute()
    security = (
        ["--insecure"]
        if insecure
        else [
            "--root-certificates",
            str(authority.absolute()),
            "--auth-supernode-private-key",
            str(key.absolute()),
        ]
    )
    training = socket.with_name("train.sock")
    return processes.Process(
        f"the SuperNode of {name}",
        [
            str(environment.program("flower-supernode")),
            *security,
            "--superlink",
            superlink,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--node-config",
            f'site="{name}" socket="{socket}" training-socket="{training}"',
        ],
        log=folder / "supernode.txt",
        folder=folder,
        environment=_variables(environment, folder / "home"),
    )


def _variables(
    environment: environments.Environment, home: pathlib.Path
) -> dict[str, str]:
    path = processes.clean_environment().get("PATH", "")
    return {
        **_QUIET,
        "FLWR_HOME": str(home),
        "PATH": f"{environment.folder / 'bin'}:{path}",
    }


def _json(printed: str) -> dict:
    return json.loads(printed[printed.index("{") : printed.rindex("}") + 1])
