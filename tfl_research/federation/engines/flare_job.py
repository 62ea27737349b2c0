"""Writes folders of FLARE jobs, which have only configuration and no code.

`write_relay` makes the job that carries messages between our coordinator and sites.
`write_training` makes the job in which FLARE averages the models of the sites.
"""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence

import numpy as np

from tfl_research.federation.engines import flare, training_socket


def write_relay(folder: pathlib.Path, *, minimum_sites: int = 1) -> pathlib.Path:
    """Writes the job of the relay.

    Args:
      folder: the job's folder, which is made.
      minimum_sites: FLARE starts the job when this many sites have connected.

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


def write_training(
    folder: pathlib.Path,
    weights: Sequence[np.ndarray],
    *,
    rounds: int,
    minimum_clients: int,
    seconds_after_minimum: int = 10,
    site_weights: Mapping[str, float] | None = None,
    key_metric: str = "accuracy",
    simulated_sockets: Mapping[str, pathlib.Path] | None = None,
) -> pathlib.Path:
    """Writes the job in which FLARE averages: ScatterAndGather and a model selector.

    A site's process trains the received weights on all its clients, and returns the
    difference. FLARE weights the differences by the numbers of examples.

    Args:
      folder: the job's folder, which is made.
      weights: the first model, as a list of arrays.
      rounds: number of rounds.
      minimum_clients: number of sites that must have answered before a round ends.
      seconds_after_minimum: how long FLARE then waits for the other sites.
      site_weights: a further factor of each site's weight, in the average and in the
        comparison of models; 1 for sites that are not named.
      key_metric: the metric by which the selector keeps the best model.
      simulated_sockets: the training socket of each site, for `nvflare simulator` on
        one machine. The job then has the code that otherwise is in startup kits.

    Returns:
      The folder. The result of a job has the last model in `models/weights.npz`. The
      best of the models that sites evaluated is in `models/best_weights.npz`.
    """
    factors = {name: float(factor) for name, factor in (site_weights or {}).items()}
    server = {
        "format_version": 2,
        "min_clients": minimum_clients,
        "num_rounds": rounds,
        "workflows": [
            {
                "id": "scatter_and_gather",
                "path": "nvflare.app_common.workflows.scatter_and_gather"
                ".ScatterAndGather",
                "args": {
                    "min_clients": minimum_clients,
                    "num_rounds": rounds,
                    "start_round": 0,
                    "wait_time_after_min_received": seconds_after_minimum,
                    "aggregator_id": "aggregator",
                    "persistor_id": "persistor",
                    "shareable_generator_id": "shareable_generator",
                    "train_task_name": "train",
                },
            }
        ],
        "components": [
            {
                "id": "model_selector",
                "path": "nvflare.app_common.widgets.intime_model_selector"
                ".IntimeModelSelector",
                "args": {"aggregation_weights": factors, "key_metric": key_metric},
            },
            {
                "id": "aggregator",
                "path": "nvflare.app_common.aggregators"
                ".intime_accumulate_model_aggregator.InTimeAccumulateWeightedAggregator",
                "args": {
                    "aggregation_weights": factors,
                    "expected_data_kind": "WEIGHT_DIFF",
                },
            },
            {
                "id": "shareable_generator",
                "path": "nvflare.app_common.shareablegenerators"
                ".full_model_shareable_generator.FullModelShareableGenerator",
                "args": {},
            },
            {
                "id": "persistor",
                "path": "tfl_flare_training.WeightsFile",
                "args": {},
            },
        ],
    }
    arguments = {}
    if simulated_sockets is not None:
        arguments["sockets"] = {
            name: str(path.absolute()) for name, path in simulated_sockets.items()
        }
    _write_job(
        folder,
        minimum_clients,
        server=server,
        client=_client("tfl_flare_training.SiteTrainer", arguments),
    )
    training_socket.save_weights(folder / "app" / "config" / "weights.npz", weights)
    if simulated_sockets is not None:
        custom = folder / "app" / "custom"
        custom.mkdir(exist_ok=True)
        for module in flare.INSTALLED:
            shutil.copyfile(flare.RELAYS / module, custom / module)
    return folder


def _client(executor: str, arguments: Mapping[str, object] | None = None) -> dict:
    return {
        "format_version": 2,
        "executors": [
            {
                "tasks": ["*"],
                "executor": {"path": executor, "args": {**(arguments or {})}},
            }
        ],
        "components": [],
    }


def _write_job(
    folder: pathlib.Path,
    minimum_sites: int,
    *,
    server: Mapping[str, object],
    client: Mapping[str, object],
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
            "mandatory_clients": [],
        },
    )
    _write(config / "config_fed_server.json", server)
    _write(config / "config_fed_client.json", client)
    return folder


def _write(path: pathlib.Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
