"""Throw-away virtual environments of the peers, kept in the user's cache."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

from benchmark.images import IMAGES
from benchmark.large import LARGE
from tfl_research.errors import UserError
from tfl_research.federation.engines.environments import find_python

_FOLDER = pathlib.Path(__file__).resolve().parent


class PeerUnavailable(RuntimeError):
    """The peer's environment cannot be made; says why."""


@dataclasses.dataclass(frozen=True)
class Environment:
    """What an environment is made from: `NAME.txt` beside this module.

    Attributes:
      oldest: the oldest Python that its packages run on.
      newest: the newest.
      alone: whether the file has every package, and what a package itself asks for
        does not count: some ask for versions that are not to be had.
    """

    oldest: tuple[int, int] = (3, 11)
    newest: tuple[int, int] = (3, 11)
    alone: bool = False


ENVIRONMENTS = {
    "flower": Environment(newest=(3, 13)),
    "pfl": Environment(),
    "fedjax": Environment(),
    "tff": Environment(alone=True),
    "flare": Environment(newest=(3, 13)),
    "openfl": Environment(newest=(3, 12)),
    "fedml": Environment(),
    "opacus": Environment(newest=(3, 13)),
    "syft": Environment(oldest=(3, 8), newest=(3, 8)),
}


@dataclasses.dataclass(frozen=True)
class Peer:
    """Another library, or a way of running it.

    Attributes:
      title: the library's name.
      environment: names its requirements, `ENVIRONMENT.txt` beside this module, and
        by default its worker, `ENVIRONMENT_worker.py`.
      workloads: which it runs.
      worker: the name of its worker's module; by default the environment's name.
      arguments: what its worker is given after the workload.
    """

    title: str
    environment: str
    workloads: tuple[str, ...]
    worker: str = ""
    arguments: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The module that runs it."""
        return f"benchmark.peers.{self.worker or self.environment}_worker"


_RECORD_LEVEL = tuple(n for n, s in IMAGES.items() if s.record_clip is not None)
_IMAGES = tuple(name for name in IMAGES if name not in _RECORD_LEVEL)
_ALL = (*_IMAGES, *LARGE)
PEERS = {
    "flower": Peer("Flower", "flower", _IMAGES),
    "pfl": Peer("pfl", "pfl", _ALL),
    "pfl_distributed": Peer("pfl", "pfl", _ALL, arguments=("distributed",)),
    "fedjax": Peer("FedJAX", "fedjax", _ALL),
    "jax_vmapped": Peer("JAX", "fedjax", _RECORD_LEVEL, worker="jax_vmapped"),
    "opacus": Peer("Opacus", "opacus", _RECORD_LEVEL),
}


def cache_folder() -> pathlib.Path:
    """Where environments are kept: `$XDG_CACHE_HOME/tfl_research/peers`."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "tfl_research" / "peers"


def requirements_of(environment: str) -> pathlib.Path:
    """The file that names every package of an environment, with its version."""
    return _FOLDER / f"{environment}.txt"


def _identity(requirements: pathlib.Path, base: str) -> str:
    """Changes when the environment must be made again."""
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    return f"{digest} {base}\n"


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: list[str], log: pathlib.Path) -> None:
    # Foreign Python settings would mix packages into the environment.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment.pop("VIRTUAL_ENV", None)
    with log.open("ab") as output:
        code = subprocess.call(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd="/",
        )
    if code != 0:
        lines = log.read_text(errors="replace").strip().splitlines()
        errors = [line for line in lines if line.lower().startswith("error")]
        reason = (errors or lines or [f"exit code {code}"])[-1]
        raise PeerUnavailable(f"{reason} (all of it: {log})")


def make(folder: pathlib.Path, base: str, packages: list[str]) -> None:
    """Makes an environment with uv, or with pip where there is no uv.

    Args:
      folder: the environment's; install.log in it has what was printed.
      base: the Python that it is made from.
      packages: what the installer is told to install.

    Raises:
      PeerUnavailable: it cannot be made.
    """
    python = str(folder / "bin" / "python")
    log = folder / "install.log"
    uv = shutil.which("uv")
    if uv is not None:
        _run([base, "-Im", "venv", "--without-pip", str(folder)], log)
        install = [uv, "pip", "install", "--python", python]
    else:
        _run([base, "-Im", "venv", str(folder)], log)
        install = [python, "-Im", "pip", "install", "--no-compile"]
    _run([*install, *packages], log)


def python_for(environment: str) -> str:
    """The Python that an environment is made from.

    Raises:
      PeerUnavailable: this machine has none that its packages run on.
    """
    spec = ENVIRONMENTS[environment]
    try:
        return find_python(environment, spec.oldest, spec.newest)
    except UserError as error:
        raise PeerUnavailable(str(error)) from error


def python_of(environment: str) -> pathlib.Path:
    """The interpreter of an environment, which is created if it is missing.

    Raises:
      PeerUnavailable: it cannot be made, for example because no package fits this
        Python, or nothing can be downloaded.
    """
    requirements = requirements_of(environment)
    base = python_for(environment)
    wanted = _identity(requirements, base)
    folder = cache_folder() / environment
    complete = folder / ".complete"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent / f".{environment}.lock"):
            if not complete.is_file() or complete.read_text() != wanted:
                print(f"installing {environment} in {folder}", file=sys.stderr)
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                options = ["--no-deps"] if ENVIRONMENTS[environment].alone else []
                make(folder, base, [*options, "-r", str(requirements)])
                complete.write_text(wanted)
    except OSError as error:
        raise PeerUnavailable(str(error)) from error
    return folder / "bin" / "python"


def command(peer: str, workload: str) -> list[str]:
    """The command that runs a peer on a workload.

    Raises:
      PeerUnavailable: see `python_of`.
    """
    peer_spec = PEERS[peer]
    python = str(python_of(peer_spec.environment))
    return [python, "-m", peer_spec.module, workload, *peer_spec.arguments]
