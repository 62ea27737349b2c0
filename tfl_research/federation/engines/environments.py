"""Environments of NVIDIA FLARE and Flower, separate from TensorFlow's environment.

The requirements of the engines and of TensorFlow 2.14 exclude each other. So each
engine has a complete, hashed lock beside this module (`flare.lock`, `flower.lock`; made
by `scripts/update_lock`) and an environment of its own. The environment is in a folder
of the user's cache that is named after the lock:
`~/.cache/tfl_research/flare-0123456789ab`. `.complete` is written last, so that an
interrupted installation starts again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tfl_research import errors
from tfl_research.storage.files import user_paths

ENGINES = ("flare", "flower")

# The oldest and the newest Python for which each lock was made.
_PYTHONS = {"flare": ((3, 10), (3, 13)), "flower": ((3, 11), (3, 13))}
_NAMES = {"flare": "NVIDIA FLARE 2.9", "flower": "Flower 1.42"}
_PROBE = (
    "import sys, ctypes, ssl, venv; print('%d %d' % sys.version_info[:2]); "
    "print(sys._base_executable)"
)
_LOG_LINES = 5
# Minor versions of Python to search for, the usual version first.
_MINORS = (11, 12, 13, 10, 9, 8)


@dataclass(frozen=True)
class Environment:
    """An engine's own Python environment.

    Attributes:
      engine: "flare" or "flower".
      folder: where the environment is.
    """

    engine: str
    folder: pathlib.Path

    @property
    def python(self) -> pathlib.Path:
        """The interpreter."""
        return self.folder / "bin" / "python"

    def program(self, name: str) -> pathlib.Path:
        """A program of the environment, for example "flower-superlink"."""
        return self.folder / "bin" / name


def ensure(
    engine: str,
    *,
    cache: pathlib.Path | None = None,
    say: Callable[[str], None] = print,
) -> Environment:
    """Returns the engine's environment, and makes it if it does not exist yet.

    Args:
      engine: "flare" or "flower".
      cache: the folder of environments; `~/.cache/tfl_research` by default.
      say: prints a line about work that takes time.

    Returns:
      A complete environment.

    Raises:
      UserError: there is no Python of a version that the engine supports, or the
        packages cannot be installed; the message says what to do.
    """
    if engine not in ENGINES:
        raise errors.UserError(
            f"--engine={engine}: must be {errors.alternatives(ENGINES)}"
        )
    lock = lock_file(engine)
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    cache = cache or _cache()
    folder = cache / f"{engine}-{digest}"
    if _is_complete(folder):
        # Also in a cache that this user can only read.
        return Environment(engine, folder)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with open(cache / f"{folder.name}.setup_lock", "a", encoding="utf-8") as held:
            _hold(held.fileno(), folder, say)
            if not _is_complete(folder):
                _make(engine, folder, lock, say)
    except OSError as error:
        raise errors.UserError(
            f"cannot make the environment of {_NAMES[engine]} in {cache}: {error}; "
            "free space or make the folder writable, or set XDG_CACHE_HOME to another "
            "folder"
        ) from error
    return Environment(engine, folder)


def lock_file(engine: str) -> pathlib.Path:
    """The file that names every package of the engine's environment, with hashes."""
    return pathlib.Path(__file__).with_name(f"{engine}.lock")


def _cache() -> pathlib.Path:
    base = user_paths.cache()
    if base is None:
        raise errors.UserError(
            "there is no home folder in which the engine's environment could be made; "
            f"set {user_paths.VARIABLE}"
        )
    return base / "tfl_research"


def _hold(descriptor: int, folder: pathlib.Path, say: Callable[[str], None]) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"another process is making {folder}; waiting for it")
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_complete(folder: pathlib.Path) -> bool:
    """Whether the environment was made to the end and its Python still runs."""
    python = folder / "bin" / "python"
    if not (folder / ".complete").exists() or not python.exists():
        return False
    return _run([str(python), "-Ic", "import ssl"]).returncode == 0


def _make(
    engine: str, folder: pathlib.Path, lock: pathlib.Path, say: Callable[[str], None]
) -> None:
    oldest, newest = _PYTHONS[engine]
    base = find_python(_NAMES[engine], oldest, newest)
    shutil.rmtree(folder, ignore_errors=True)
    say(
        f"installing {_NAMES[engine]} into {folder} with {base} "
        "(about 50 MB to download, up to a minute)"
    )
    uv = shutil.which("uv")
    requirements = ["--no-deps", "--require-hashes", "-r", str(lock)]
    without_pip = ["--without-pip"] if uv else []
    made = _run([base, "-Im", "venv", *without_pip, str(folder)])
    if made.returncode:
        raise errors.UserError(
            f"{base} cannot make an environment: {_last_lines(made)}; install uv, or "
            "the 'python3-venv' package of its version"
        )
    python = str(folder / "bin" / "python")
    if uv:
        installed = _run([uv, "pip", "install", "--python", python, *requirements])
    else:
        installed = _run(
            [python, "-Im", "pip", "install", "--no-compile", *requirements]
        )
    if installed.returncode:
        raise errors.UserError(
            f"{_NAMES[engine]} cannot be installed into {folder}: "
            f"{_last_lines(installed)}"
        )
    (folder / ".complete").write_text(f"{lock.name} {base}\n", encoding="utf-8")


def find_python(title: str, oldest: tuple[int, int], newest: tuple[int, int]) -> str:
    """Finds the path of a Python on this machine, outside of any environment.

    Args:
      title: the name of the program that needs Python, for the message.
      oldest: the oldest usable version, such as (3, 10).
      newest: the newest usable version.

    Raises:
      UserError: no Python of these versions is installed; the message says which
        Pythons were found, and what to install.
    """
    found = set()
    for candidate in _candidates():
        probed = _run([candidate, "-Ic", _PROBE])
        if probed.returncode:
            continue
        version, executable = probed.stdout.splitlines()
        major, minor = (int(part) for part in version.split())
        if oldest <= (major, minor) <= newest:
            return executable
        found.add(f"{major}.{minor}")
    span = f"{oldest[0]}.{oldest[1]}"
    if oldest != newest:
        span += f" to {newest[0]}.{newest[1]}"
    usual = max(oldest, min(newest, (3, _MINORS[0])))
    example = f"{usual[0]}.{usual[1]}"
    raise errors.UserError(
        f"{title} needs Python {span}, found "
        f"{errors.alternatives(sorted(found)) or 'none'}; install one, for example "
        f"'apt install python{example} python{example}-venv' or "
        f"'pyenv install {example}'"
    )


def _candidates() -> Iterator[str]:
    names = [*(f"python3.{minor}" for minor in _MINORS), "python3"]
    yield from (path for path in map(shutil.which, names) if path)
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv"))
    for minor in _MINORS:
        yield from map(str, sorted(pyenv.glob(f"versions/3.{minor}*/bin/python")))
    # The Python from which the environment of this process was made.
    yield str(pathlib.Path(sys.base_prefix) / "bin" / "python3")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    # A caller's Python settings would mix foreign packages into the environment.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") and name != "VIRTUAL_ENV"
    }
    return subprocess.run(
        command,
        env=kept,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _last_lines(completed: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in completed.stdout.splitlines() if line.strip()]
    return " / ".join(lines[-_LOG_LINES:]) or f"exit code {completed.returncode}"
