"""NVIDIA FLARE: startup kits, the server's and the sites' processes, jobs.

The operator of the server provisions a network once: FLARE makes a certificate
authority, and a startup kit with certificates for the server, each site and an
administrator. All connections are TLS with certificates on both sides; a stranger
without a kit is refused. This module restricts a kit: jobs may only name the classes of
`relays/` and FLARE's averaging, and may not bring code.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
from collections.abc import Sequence

from tfl_research import errors
from tfl_research.federation.engines import environments, processes

ADMINISTRATOR = "administrator@federation.local"

RELAYS = pathlib.Path(__file__).with_name("relays")
# The code of a kit: the relay, and FLARE's own averaging.
INSTALLED = (
    "tfl_relay_frames.py",
    "tfl_relay_coordinator.py",
    "tfl_relay_requests.py",
    "tfl_flare_relay.py",
    "tfl_flare_training.py",
    "tfl_training.py",
)
# The classes that a job may name, at the server and at a site.
_SERVER_CLASSES = (
    "tfl_flare_relay.CoordinatorRelay",
    "tfl_flare_training.WeightsFile",
    "nvflare.app_common.aggregators.intime_accumulate_model_aggregator"
    ".InTimeAccumulateWeightedAggregator",
    "nvflare.app_common.shareablegenerators.full_model_shareable_generator"
    ".FullModelShareableGenerator",
    "nvflare.app_common.widgets.intime_model_selector.IntimeModelSelector",
    "nvflare.app_common.workflows.scatter_and_gather.ScatterAndGather",
)
_SITE_CLASSES = ("tfl_flare_relay.SiteRelay", "tfl_flare_training.SiteTrainer")
_AUTHORIZATION = {
    "format_version": "1.0",
    "permissions": {
        "project_admin": {
            "submit_job": "any",
            "clone_job": "none",
            "manage_job": "any",
            "download_job": "any",
            "view": "any",
            "operate": "any",
            "shell_commands": "none",
            "byoc": "none",
            "server-predeployed-flwr": "none",
        }
    },
}


def provision(
    environment: environments.Environment,
    folder: pathlib.Path,
    *,
    name: str,
    sites: Sequence[str],
    server: str = "localhost",
    port: int = 8002,
) -> dict[str, pathlib.Path]:
    """Makes certificates and startup kits for a server, sites and an administrator.

    Args:
      environment: FLARE's environment.
      folder: the folder for the kits; the certificate authority's key stays there.
      name: the federation's name.
      sites: the names of the sites.
      server: the host under which sites reach the server. "localhost" listens on the
        loopback interface only, any other name on all interfaces.
      port: the server's port.

    Returns:
      The kits by participant: "server", "administrator" and the sites' names.

    Raises:
      UserError: FLARE refuses the project; the message has FLARE's reason.
    """
    project = {
        "api_version": 3,
        "name": name,
        "description": "A federation of tfl_research",
        "participants": [
            {"name": server, "type": "server", "org": name, "fed_learn_port": port},
            {
                "name": ADMINISTRATOR,
                "type": "admin",
                "org": name,
                "role": "project_admin",
            },
            *({"name": site, "type": "client", "org": name} for site in sites),
        ],
        "builders": [
            {
                "path": "nvflare.lighter.impl.workspace.WorkspaceBuilder",
                "args": {"template_file": ["master_template.yml"]},
            },
            {
                "path": "nvflare.lighter.impl.static_file.StaticFileBuilder",
                "args": {"config_folder": "config"},
            },
            {"path": "nvflare.lighter.impl.cert.CertBuilder"},
            {"path": "nvflare.lighter.impl.signature.SignatureBuilder"},
        ],
    }
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # JSON is valid YAML.
    (folder / "project.yml").write_text(json.dumps(project, indent=2), encoding="utf-8")
    processes.run(
        "nvflare provision",
        [
            str(environment.python),
            "-m",
            "nvflare.lighter.provision",
            "-p",
            str(folder / "project.yml"),
            "-w",
            str(folder),
            # An existing authority also signs certificates of further sites.
            "--force",
        ],
        folder=folder,
    )
    newest = sorted((folder / name).glob("prod_*"))[-1]
    kits = {"server": newest / server, "administrator": newest / ADMINISTRATOR}
    kits.update({site: newest / site for site in sites})
    for kit in kits.values():
        kit.chmod(0o700)
    return kits


def prepare_kit(
    kit: pathlib.Path, *, socket: pathlib.Path, is_server: bool = False
) -> None:
    """Installs the relay into a startup kit, and restricts the classes of jobs.

    Each site runs this itself, so that only the site's own code runs there.

    Args:
      kit: the folder with `startup` and `local`.
      socket: the Unix-domain socket of the site's process, or of the coordinator.
      is_server: whether the kit is the server's.

    Raises:
      UserError: the folder is not a startup kit.
    """
    local = kit / "local"
    if not (kit / "startup").is_dir() or not local.is_dir():
        raise errors.UserError(
            f"{kit} is not a startup kit of FLARE: it must hold 'startup' and 'local'; "
            "give the folder that 'scripts/federation provision' made for this site"
        )
    custom = local / "custom"
    custom.mkdir(exist_ok=True)
    for module in INSTALLED:
        shutil.copyfile(RELAYS / module, custom / module)
    _write(
        local / "tfl_relay.json",
        {
            "socket": str(socket.absolute()),
            "training_socket": str(socket.absolute().with_name("train.sock")),
        },
    )
    resources = json.loads((local / "resources.json.default").read_text("utf-8"))
    resources["class_allow_list"] = [*(_SERVER_CLASSES if is_server else _SITE_CLASSES)]
    resources["class_list_enforcement_mode"] = "enforce"
    if is_server:
        # By default, FLARE stores jobs under /tmp, where other users could read them.
        _store_below(resources, kit.absolute() / "jobs")
    else:
        # FLARE would send a site's error log to the server.
        resources["allow_log_streaming"] = False
        resources["components"] = [
            component
            for component in resources["components"]
            if component["id"] != "site_log_streamer"
        ]
    _write(local / "resources.json", resources)
    _write(local / "authorization.json", _AUTHORIZATION)


def start_server(
    environment: environments.Environment, kit: pathlib.Path
) -> processes.Process:
    """Starts FLARE's server from its kit."""
    return _start(
        environment, kit, "server", "server.server_train", "fed_server.json", []
    )


def start_site(
    environment: environments.Environment, kit: pathlib.Path, name: str
) -> processes.Process:
    """Starts FLARE's client of a site from the site's kit."""
    return _start(
        environment,
        kit,
        f"site {name}",
        "client.client_train",
        "fed_client.json",
        [f"uid={name}"],
    )


def ask_server(
    environment: environments.Environment,
    kit: pathlib.Path,
    command: str,
    argument: str = "",
    *,
    seconds: float = 120.0,
) -> str:
    """Submits, waits for, aborts or downloads a job, or lists sites, as administrator.

    Args:
      environment: FLARE's.
      kit: the administrator's startup kit.
      command: "submit", "wait", "abort", "download" or "sites".
      argument: a job's folder (submit) or id.
      seconds: how long the command may take.

    Returns:
      The last line that the command printed: a job's id, its status, a folder, names.
    """
    printed = processes.run(
        f"FLARE's {command}",
        [
            str(environment.python),
            str(RELAYS / "tfl_flare_admin.py"),
            str(kit.absolute()),
            ADMINISTRATOR,
            command,
            argument,
        ],
        folder=kit,
        seconds=seconds,
    )
    return printed.strip().splitlines()[-1] if printed.strip() else ""


def _start(
    environment: environments.Environment,
    kit: pathlib.Path,
    name: str,
    module: str,
    configuration: str,
    settings: Sequence[str],
) -> processes.Process:
    kit = kit.absolute()
    (kit / "transfer").mkdir(exist_ok=True)
    return processes.Process(
        f"FLARE's {name}",
        [
            str(environment.python),
            "-u",
            "-m",
            f"nvflare.private.fed.app.{module}",
            "-m",
            str(kit),
            "-s",
            configuration,
            "--set",
            "secure_train=true",
            *settings,
            "config_folder=config",
        ],
        log=kit / "output.txt",
        folder=kit,
        environment={"PATH": f"{environment.folder / 'bin'}:{os.environ['PATH']}"},
    )


def _store_below(resources: dict, folder: pathlib.Path) -> None:
    persistor = resources["snapshot_persistor"]["args"]["storage"]["args"]
    persistor["root_dir"] = str(folder / "snapshots")
    for component in resources["components"]:
        if component["id"] == "job_manager":
            component["args"]["uri_root"] = str(folder / "store")


def _write(path: pathlib.Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
