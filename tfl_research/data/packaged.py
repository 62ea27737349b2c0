"""Finds data files inside installed packages without importing the packages."""

from __future__ import annotations

import importlib.util
import pathlib


def package_file(package: str, relative_path: str) -> pathlib.Path:
    """Returns the path of a file in an installed package.

    The package's code is not run: some data packages are Python 2 code, load
    everything at import, or carry a licence that covers only their wrapper.

    Args:
      package: a top-level package.
      relative_path: the file's or folder's path inside it.

    Raises:
      ValueError: the package is not installed, or has no such file.
    """
    advice = "install the data packages with: pip install 'tfl_research[data]'"
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"the package {package!r} is not installed; {advice}")
    for folder in spec.submodule_search_locations:
        path = pathlib.Path(folder) / relative_path
        if path.exists():
            return path
    raise ValueError(f"the package {package!r} has no {relative_path}; {advice}")
