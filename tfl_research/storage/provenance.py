"""The code of a run: package versions and the git revision."""

from __future__ import annotations

import importlib.metadata
import pathlib
import platform
import subprocess
from typing import Optional

_PACKAGES = (
    "tfl_research",
    "tensorflow",
    "tensorflow-federated",
    "tensorflow-privacy",
    "tensorflow-probability",
    "dp-accounting",
    "numpy",
    "scipy",
    "jax",
    "jaxlib",
    "pandas",
)


def package_versions() -> dict[str, Optional[str]]:
    """Versions of Python and of packages; None for a package that is not installed.

    Read from the packages' metadata: nothing is imported.
    """
    versions: dict[str, Optional[str]] = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def git_revision() -> Optional[str]:
    """The commit of this source tree, with `-dirty` if files were changed since.

    None outside of a git checkout, without git, and for an installed package (which may
    be in an environment inside another repository).
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
