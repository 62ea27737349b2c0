"""Writes folders of Flower apps, which `flwr run` sends to SuperLink and SuperNodes.

`write_relay` makes the app that carries messages between our coordinator and sites.
`write_training` makes the app in which Flower averages the models of the sites.
"""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence

import numpy as np

from tfl_research.federation.engines import training_socket

_RELAYS = pathlib.Path(__file__).with_name("relays")
# Modules of every app.
_SHARED = ("tfl_relay_frames.py", "tfl_relay_coordinator.py", "tfl_training.py")


def write_relay(folder: pathlib.Path) -> pathlib.Path:
    """Writes the app of the relay.

    The app's run configuration has `coordinator-socket`, the coordinator's socket, and
    `minimum-sites`. The app relays when this many sites have said their names.

    Args:
      folder: the app's folder, which is made.

    Returns:
      The folder.
    """
    return _write_app(
        folder,
        "flower_relay",
        {"coordinator-socket": "coordinator.sock", "minimum-sites": 1},
    )


def write_training(
    folder: pathlib.Path,
    weights: Sequence[np.ndarray],
    *,
    rounds: int,
    fraction_fit: float = 1.0,
    fraction_evaluate: float = 1.0,
    minimum_fit_clients: int = 2,
    minimum_evaluate_clients: int = 2,
    minimum_available_clients: int = 2,
    round_seconds: float = 3600.0,
) -> pathlib.Path:
    """Writes the app in which Flower's FedAvg averages.

    A site's process trains the received weights on all its clients, and returns the new
    weights. Flower weights the sites' weights by the numbers of examples.

    Args:
      folder: the app's folder, which is made. `weights.npz` there gets the first model,
        and the run writes the last model to `result.npz`. The SuperLink reads and
        writes both files on its machine. They are not part of the app. `weights-file`
        and `result-file` of the run configuration change their paths.
      weights: the first model, as a list of arrays.
      rounds: number of rounds.
      fraction_fit: share of the connected sites that train in a round.
      fraction_evaluate: share of the connected sites that evaluate in a round.
      minimum_fit_clients: at least this many sites train.
      minimum_evaluate_clients: at least this many sites evaluate.
      minimum_available_clients: at least this many sites must be connected.
      round_seconds: how long a round waits for sites.

    Returns:
      The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    first = folder.absolute() / "weights.npz"
    training_socket.save_weights(first, weights)
    return _write_app(
        folder,
        "flower_training",
        {
            "num-rounds": rounds,
            "fraction-fit": float(fraction_fit),
            "fraction-evaluate": float(fraction_evaluate),
            "min-fit-clients": minimum_fit_clients,
            "min-evaluate-clients": minimum_evaluate_clients,
            "min-available-clients": minimum_available_clients,
            "round-seconds": float(round_seconds),
            "weights-file": str(first),
            "result-file": str(first.with_name("result.npz")),
        },
    )


def _write_app(
    folder: pathlib.Path, package: str, settings: Mapping[str, object]
) -> pathlib.Path:
    inside = folder / package
    inside.mkdir(parents=True, exist_ok=True)
    for module in (_RELAYS / package).glob("*.py"):
        shutil.copyfile(module, inside / module.name)
    for shared in _SHARED:
        shutil.copyfile(_RELAYS / shared, inside / shared)
    project = (_RELAYS / "flower_app.toml").read_text(encoding="utf-8")
    project = project.replace("PACKAGE", package)
    project = project.replace("NAME", package.replace("_", "-"))
    # A TOML value of these types is written as in JSON.
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
    (folder / "pyproject.toml").write_text(project + "".join(lines), encoding="utf-8")
    return folder
