"""Results in the file of --output, so that a run that is started again goes on."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from benchmark.contender import TOO_LONG
from tfl_research.storage import provenance
from tfl_research.storage.files import user_cache

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_CODE = ("tfl_research", "scripts/benchmark")
_KINDS = (".py", ".txt")
# Beginnings of the names of variables that change seconds.
_SETTINGS = ("XLA_", "TF_", "OMP_", "MKL_", "DNNL_", "ONEDNN_")
# The member of the file that says by what each result was measured.
_BY = "measured_by"


def code(folders: Sequence[str] = _CODE) -> str:
    """Changes with every line in the folders: the package, and the benchmark."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted((_ROOT / folder).rglob("*")):
            if path.suffix in _KINDS:
                digest.update(str(path.relative_to(_ROOT)).encode() + b"\0")
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def surroundings() -> list[Any]:
    """What seconds depend on beside the code: machine, packages and settings."""
    settings = {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith(_SETTINGS)
    }
    return [
        len(os.sched_getaffinity(0)),
        *user_cache.machine(),
        sys.version,
        provenance.package_versions(),
        settings,
    ]


class Results:
    """The results that a run is asked for, written to a file after each.

    What the file holds already is taken from it if this code measured it, with the
    same flags, on a machine of this kind, with the same packages. Results of other
    commands stay in the file.
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
        self._others: dict[str, Any] = {}
        if path is None:
            return
        made_by = [code(), *surroundings()]
        for name, settings in wanted.items():
            text = json.dumps([made_by, settings], sort_keys=True)
            self._by[name] = hashlib.sha256(text.encode()).hexdigest()
        before = _read(path)
        for name, by in before.get(_BY, {}).items():
            value = _member(before, name)
            if value is None:
                continue
            if name not in wanted:
                # Of another command, and not this one's to lose.
                self._others[name], self._by[name] = value, by
            elif by == self._by[name] and _is_complete(value):
                self._found[name] = value

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def add(self, name: str, value: Any) -> None:
        """Adds a result and writes the file."""
        self._found[name] = value
        if self._path is None:
            return
        everything = {**self._others, **self._found}
        by = {name: self._by[name] for name in everything}
        order = [*self._order, *self._others]
        written = {**_nested(everything, order), _BY: by}
        text = json.dumps(written, indent=1) + "\n"
        # Whole or not at all, also if the process ends here.
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        beside.write_text(text)
        beside.replace(self._path)

    def values(self) -> dict[str, Any]:
        """The results that are there, in the order in which they were asked for."""
        return _nested(self._found, self._order)


def _nested(found: Mapping[str, Any], order: Sequence[str]) -> dict[str, Any]:
    """Values by names "a/b", as members of members, in an order."""
    values: dict[str, Any] = {}
    for name in order:
        if name in found:
            *folders, last = name.split("/")
            place = values
            for folder in folders:
                place = place.setdefault(folder, {})
            place[last] = found[name]
    return values


def _is_complete(value: Any) -> bool:
    """Whether no contender was absent for a reason that can pass, as a lost network."""
    absent = value.get("absent", {}) if isinstance(value, dict) else {}
    return all(reason.startswith(TOO_LONG) for reason in absent.values())


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
