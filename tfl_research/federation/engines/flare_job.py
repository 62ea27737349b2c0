"""Folders of FLARE jobs: configuration alone, without code.

`write_relay` makes the job that carries messages between our coordinator and sites;
`write_training` the job in which FLARE itself averages what sites train.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence


def write_relay(folder: pathlib.Path, *, minimum_sites: int = 1) -> pathlib.Path:
    """Writes the job of the relay.

    Args:
      folder: the job's folder, which is made.
      minimum_sites: how many connected sites FLARE waits for before the job starts.

    Returns:
      The folder.
    """
    return _write_job(
        folder,
        minimum_sites,
        server={
            "format_version": 2,
            "workflows": [
                {
                    "id": "relay",
                    "path": "tfl_flare_relay.CoordinatorRelay",
                    "args": {},
                }
            ],
            "components": [],
        },
        client=_client("tfl_flare_relay.SiteRelay"),
    )


def _client(executor: str) -> dict:
    return {
        "format_version": 2,
        "executors": [{"tasks": ["*"], "executor": {"path": executor, "args": {}}}],
        "components": [],
    }


def _write_job(
    folder: pathlib.Path,
    minimum_sites: int,
    *,
    server: Mapping[str, object],
    client: Mapping[str, object],
    mandatory: Sequence[str] = (),
) -> pathlib.Path:
    config = folder / "app" / "config"
    config.mkdir(parents=True, exist_ok=True)
    _write(
        folder / "meta.json",
        {
            "name": folder.name,
            "resource_spec": {},
            "deploy_map": {"app": ["@ALL"]},
            "min_clients": minimum_sites,
            "mandatory_clients": [*mandatory],
        },
    )
    _write(config / "config_fed_server.json", server)
    _write(config / "config_fed_client.json", client)
    return folder


def _write(path: pathlib.Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
