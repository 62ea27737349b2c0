"""Folders of Flower apps, which `flwr run` sends to the SuperLink and the SuperNodes.

`write_relay` makes the app that carries messages between our coordinator and sites.
"""

from __future__ import annotations

import pathlib
import shutil

_RELAYS = pathlib.Path(__file__).with_name("relays")


def write_relay(folder: pathlib.Path) -> pathlib.Path:
    """Writes the app of the relay.

    Its run configuration has `coordinator-socket`, the coordinator's socket, and
    `minimum-sites`, how many sites must have said their names before it relays.

    Args:
      folder: the app's folder, which is made.

    Returns:
      The folder.
    """
    return _write_app(folder, "flower_relay")


def _write_app(folder: pathlib.Path, package: str) -> pathlib.Path:
    inside = folder / package
    inside.mkdir(parents=True, exist_ok=True)
    for module in (_RELAYS / package).glob("*.py"):
        shutil.copyfile(module, inside / module.name)
    frames = "tfl_relay_frames.py"
    shutil.copyfile(_RELAYS / frames, inside / frames)
    shutil.copyfile(_RELAYS / f"{package}.toml", folder / "pyproject.toml")
    return folder
