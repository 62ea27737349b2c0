"""Results in the file of --output, so that a run that is started again goes on."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Optional

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_CODE = ("tfl_research", "scripts/benchmark")
_KINDS = (".py", ".txt")
# The member of the file that says by what each result was measured.
_BY = "measured_by"


def code() -> str:
    """Changes with every line of the package and of the benchmark."""
    digest = hashlib.sha256()
    for folder in _CODE:
        for path in sorted((_ROOT / folder).rglob("*")):
            if path.suffix in _KINDS:
                digest.update(str(path.relative_to(_ROOT)).encode() + b"\0")
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


class Results:
    """The results that a run is asked for, written to a file after each.

    What the file holds already is taken from it if this code measured it, with the
    same flags, on as many cores.
    """

    def __init__(
        self, path: Optional[pathlib.Path], wanted: Mapping[str, Mapping[str, Any]]
    ):
        """Reads what the file holds.

        Args:
          path: the file, which need not be there; None for none.
          wanted: names of the results, "a/b" for a member b of a, each with the flags
            that it depends on.
        """
        self._path = path
        self._found: dict[str, Any] = {}
        self._by: dict[str, str] = {}
        self._order = list(wanted)
        if path is None:
            return
        made_by, cores = code(), len(os.sched_getaffinity(0))
        for name, settings in wanted.items():
            text = json.dumps([made_by, cores, settings], sort_keys=True)
            self._by[name] = hashlib.sha256(text.encode()).hexdigest()
        before = _read(path)
        for name, by in self._by.items():
            if before.get(_BY, {}).get(name) == by:
                value = _member(before, name)
                if value is not None:
                    self._found[name] = value

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def add(self, name: str, value: Any) -> None:
        """Adds a result and writes the file."""
        self._found[name] = value
        if self._path is None:
            return
        by = {name: self._by[name] for name in self._found}
        text = json.dumps({**self.values(), _BY: by}, indent=1) + "\n"
        # Whole or not at all, also if the process ends here.
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        beside.write_text(text)
        beside.replace(self._path)

    def values(self) -> dict[str, Any]:
        """The results that are there, in the order in which they were asked for."""
        values: dict[str, Any] = {}
        for name in self._order:
            if name in self._found:
                *folders, last = name.split("/")
                place = values
                for folder in folders:
                    place = place.setdefault(folder, {})
                place[last] = self._found[name]
        return values


def _read(path: pathlib.Path) -> dict[str, Any]:
    """The results in a file; none in a file of another kind."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict) or not isinstance(found.get(_BY), dict):
        return {}
    return found


def _member(found: Any, name: str) -> Any:
    for step in name.split("/"):
        found = found.get(step) if isinstance(found, dict) else None
    return found
