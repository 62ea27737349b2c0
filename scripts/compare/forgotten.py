"""The results that --again removed, and does not remove once more."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable


class Forgotten:
    """The frameworks whose results --again removed, until all are measured anew.

    Their names stand in a file, so that the same command, after it was interrupted,
    does not remove what it measured until then.

    Args:
      path: the file, in the folder of the results.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._names = path.read_text().split() if path.exists() else []

    def forget(self, name: str) -> bool:
        """Removes a result that was not removed yet; returns whether it did."""
        if name in self._names:
            return False
        # First the result: a name without one is measured in any case.
        (self._path.parent / f"{name}.json").unlink(missing_ok=True)
        self._keep([*self._names, name])
        return True

    def end(self, measured: Iterable[str]) -> None:
        """Says that these are measured: the next --again removes their results."""
        self._keep([name for name in self._names if name not in set(measured)])

    def _keep(self, names: list[str]) -> None:
        self._names = names
        if names:
            self._path.write_text("\n".join(names) + "\n")
        else:
            self._path.unlink(missing_ok=True)
