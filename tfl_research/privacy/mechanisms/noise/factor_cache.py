"""Keeps optimised matrices in the user's cache folder; a lost file costs only time."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Optional

import numpy as np
import scipy

from tfl_research.errors import UserError
from tfl_research.storage.files import user_cache, user_paths

# Version of the files and of the optimisation; files of other versions are ignored.
_VERSION = 1


def folder() -> Path:
    """Returns $XDG_CACHE_HOME/tfl_research/factorization, by default under ~/.cache.

    Raises:
      UserError: the user has no home folder, and the variable is not set.
    """
    return user_cache.folder() / "factorization"


def path_of(key: Mapping[str, Any]) -> Path:
    """Returns the file of the matrix with these parameters (JSON values)."""
    digest = hashlib.sha256(_words(key).encode()).hexdigest()
    return folder() / f"{digest[:32]}.npz"


def _words(key: Mapping[str, Any]) -> str:
    # An optimiser's last digits depend on the machine and on the libraries.
    made_by = [*user_cache.machine(), np.__version__, scipy.__version__]
    return json.dumps({"version": _VERSION, "made_by": made_by, **key}, sort_keys=True)


def load(
    key: Mapping[str, Any], check: Callable[[np.ndarray], Any]
) -> Optional[np.ndarray]:
    """Loads the rows of the matrix, float64 `[rounds, bands]`; None if there are none.

    For a damaged file, or a file of other parameters, the function warns and returns
    None. The matrix is then computed again.

    Args:
      key: the matrix' parameters, JSON values, with "rounds" and "bands".
      check: raises ValueError if the rows are not a valid matrix.
    """
    if user_paths.cache() is None:
        return None
    path = path_of(key)
    try:
        content = user_cache.read(path)
        if content is None:
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            if str(stored["key"]) != _words(key):
                raise ValueError("the file is for other parameters")
            rows: np.ndarray = stored["rows"]
        if rows.shape != (key["rounds"], key["bands"]):
            raise ValueError(f"the matrix has the shape {rows.shape}")
        check(rows)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        warnings.warn(
            f"{path} does not hold a usable matrix ({error}); the matrix is computed "
            "again",
            stacklevel=3,
        )
        return None
    return rows


def store(key: Mapping[str, Any], rows: np.ndarray) -> None:
    """Stores the matrix atomically; warns if the folder cannot be written."""
    try:
        path = path_of(key)
    except UserError as error:
        warnings.warn(f"the optimised matrix is not kept: {error}", stacklevel=3)
        return
    try:
        content = io.BytesIO()
        np.savez(content, rows=rows, key=np.array(_words(key)))
        user_cache.replace(path, content.getvalue())
    except OSError as error:
        # If a file exists, `load` has warned that it cannot be used.
        if not path.exists():
            warnings.warn(
                f"the optimised matrix could not be kept in {path.parent} ({error})",
                stacklevel=3,
            )
