"""Reads federation.toml: the coordinator's settings, and its sites."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Mapping
from typing import Any, Optional

from tfl_research.errors import UserError
from tfl_research.federation import toml_file
from tfl_research.federation.wire import authentication
from tfl_research.storage.files import user_paths

CARRIERS = ("local", "flare", "flower")
LOCAL = "local"
ROUND_DEADLINE = 600.0
START_DEADLINE = 600.0
_DEADLINES = {"round_deadline": ROUND_DEADLINE, "start_deadline": START_DEADLINE}
_COORDINATOR_SOCKET = "coordinator.sock"


@dataclasses.dataclass(frozen=True)
class FederationSite:
    """A site, as the coordinator knows it.

    Attributes:
      name: the name of the site.
      key: file of the key that coordinator and site share.
      socket: the socket of the site for the carrier "local"; None for other carriers.
    """

    name: str
    key: pathlib.Path
    socket: Optional[pathlib.Path] = None


@dataclasses.dataclass(frozen=True)
class FederationFile:
    """A federation.toml.

    Attributes:
      path: the file.
      name: the name of the federation.
      carrier: "local", "flare" or "flower".
      sites: the sites, in the order of the file, in which reports are added.
      round_deadline: seconds after which a round goes on without the sites that have
        not answered.
      start_deadline: seconds that a site has to begin a run, that is, to read its data
        and compile its work.
    """

    path: pathlib.Path
    name: str
    carrier: str
    sites: tuple[FederationSite, ...]
    round_deadline: float = ROUND_DEADLINE
    start_deadline: float = START_DEADLINE

    @property
    def folder(self) -> pathlib.Path:
        """The folder that the file is in."""
        return self.path.parent

    @property
    def site_names(self) -> tuple[str, ...]:
        """The names of the sites, in their order."""
        return tuple(site.name for site in self.sites)

    @property
    def coordinator_socket(self) -> pathlib.Path:
        """The socket at which the relay of another engine connects."""
        return self.folder / _COORDINATOR_SOCKET

    def sockets(self) -> dict[str, pathlib.Path]:
        """The sockets of the sites by name; empty unless the carrier is "local"."""
        return {s.name: s.socket for s in self.sites if s.socket is not None}

    def keys(self) -> dict[str, bytes]:
        """The keys of the sites by name.

        Raises:
          UserError: a key cannot be read, or two sites have the same key.
        """
        keys = {site.name: authentication.read_key(site.key) for site in self.sites}
        by_key: dict[bytes, str] = {}
        for name, key in keys.items():
            if key in by_key:
                raise UserError(
                    f"{self.path}: the sites {by_key[key]} and {name} have the same "
                    "key, so each could speak for the other; give each site its own "
                    "key"
                )
            by_key[key] = name
        return keys


def read(path: pathlib.Path) -> FederationFile:
    """Reads a federation.toml; relative paths start at the file's folder.

    Raises:
      UserError: the file cannot be read, or an entry is missing, unknown or does not
        fit; the message names the file and the entry.

    Example:
      >>> import pathlib
      >>> from tfl_research.federation import federation_file
      >>> lines = ['[federation]', 'name = "wards"', '[[site]]', 'name = "north"']
      >>> lines += ['key = "keys/north.key"', 'socket = "sites/north/site.sock"']
      >>> path = pathlib.Path("federation.toml")
      >>> _ = path.write_text("\\n".join(lines))
      >>> federation_file.read(path).site_names
      ('north',)
    """
    path = user_paths.expanded(path).absolute()
    content = toml_file.read(path)
    toml_file.check_names(str(path), content, ("federation", "site"))
    table = content.get("federation")
    if not isinstance(table, dict):
        raise UserError(f"{path}: has no table [federation]; add it")
    where = f"{path}: [federation]"
    fields = ("name", "carrier", *_DEADLINES)
    toml_file.check_names(where, table, fields)
    name = table.get("name")
    if not isinstance(name, str) or not name:
        raise UserError(f"{where}: name must be a text, got {name!r}")
    carrier = table.get("carrier", LOCAL)
    if carrier not in CARRIERS:
        raise UserError(
            f"{where}: carrier must be one of {', '.join(CARRIERS)}, got {carrier!r}"
        )
    entries = content.get("site")
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: has no [[site]]; add a table for each site")
    sites = tuple(_site(path, carrier, entry) for entry in entries)
    names = [site.name for site in sites]
    for site in names:
        if names.count(site) > 1:
            raise UserError(
                f"{path}: two tables [[site]] have the name {site!r}; remove one"
            )
    deadlines = {
        field: _deadline(where, field, table.get(field, default))
        for field, default in _DEADLINES.items()
    }
    return FederationFile(path, name, carrier, sites, **deadlines)


def _site(path: pathlib.Path, carrier: str, entry: Any) -> FederationSite:
    if not isinstance(entry, dict):
        raise UserError(f"{path}: site must be tables [[site]], got {entry!r}")
    name = authentication.check_name(entry.get("name"), f"{path}: [[site]] name")
    where = f"{path}: [[site]] {name}"
    toml_file.check_names(where, entry, ("name", "key", "socket"))
    if carrier == LOCAL and "socket" not in entry:
        raise UserError(
            f"{where}: the carrier {LOCAL!r} needs the entry socket, the path of the "
            "site's socket; add it"
        )
    socket = _path(where, "socket", entry, path) if "socket" in entry else None
    return FederationSite(name, _path(where, "key", entry, path), socket)


def _path(
    where: str, name: str, entry: Mapping[str, Any], file: pathlib.Path
) -> pathlib.Path:
    value = entry.get(name)
    if not isinstance(value, str) or not value:
        raise UserError(f"{where}: {name} must be a path, got {value!r}")
    return file.parent / user_paths.expanded(value)


def _deadline(where: str, field: str, value: Any) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # Whole numbers of TOML may be larger than any float.
    if not is_number or not 0 < value <= sys.float_info.max:
        raise UserError(f"{where}: {field} must be seconds above 0, got {value!r}")
    return float(value)
