"""Reads site.toml: a site's name, data and rules."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, Optional

from tfl_research import registry
from tfl_research.errors import UserError
from tfl_research.federation import toml_file
from tfl_research.federation.site.policy import SitePolicy
from tfl_research.federation.wire.authentication import check_name, read_key
from tfl_research.storage.files import user_paths

# Options of tasks that are paths, which start at the file's folder.
_PATHS = ("data_dir",)


@dataclasses.dataclass(frozen=True)
class SiteFile:
    """A site.toml.

    Attributes:
      path: the file.
      name: the name of the site.
      key: the key that the site shares with the coordinator.
      socket: the socket at which the site's process listens.
      folder: the folder of the files that the process keeps.
      task: name of the site's task.
      options: the options of the task, by name.
      clients: the task's clients that take part; all when None.
      policy: the site's rules.
      plugin: a module that registers a user's own tasks or other parts, or None.
    """

    path: pathlib.Path
    name: str
    key: bytes = dataclasses.field(repr=False)
    socket: pathlib.Path
    folder: pathlib.Path
    task: str
    options: dict[str, Any]
    clients: Optional[tuple[str, ...]]
    policy: SitePolicy
    plugin: Optional[str]

    @classmethod
    def read(cls, path: pathlib.Path) -> SiteFile:
        """Reads a site.toml; relative paths start at the file's folder.

        Raises:
          UserError: the file or the key cannot be read, or an entry is missing, unknown
            or does not fit; the message names the file and the entry.
        """
        path = user_paths.expanded(path).absolute()
        content = toml_file.read(path)
        toml_file.check_names(str(path), content, ("site", "data", "policy"))
        site = _table(path, content, "site")
        where = f"{path}: [site]"
        toml_file.check_names(
            where, site, ("name", "key", "socket", "folder", "plugin")
        )
        data = dict(_table(path, content, "data"))
        task = _text(f"{path}: [data]", data, "task")
        data.pop("task")
        clients = _clients(f"{path}: [data]", data.pop("clients", None))
        policy = content.get("policy", {})
        if not isinstance(policy, dict):
            raise UserError(f"{path}: policy must be a table [policy]")
        return cls(
            path=path,
            name=check_name(_text(where, site, "name"), f"{where}: name"),
            key=read_key(_path(path, where, site, "key", "site.key")),
            socket=_path(path, where, site, "socket", "site.sock"),
            folder=_path(path, where, site, "folder", "state"),
            task=task,
            options=_options(path, data),
            clients=clients,
            policy=SitePolicy.of(policy, f"{path}: [policy]"),
            plugin=_text(where, site, "plugin") if "plugin" in site else None,
        )

    def load_plugin(self) -> None:
        """Imports the plugin, if there is one.

        Raises:
          SettingError: the plugin cannot be found, or its import fails.
        """
        if self.plugin is not None:
            registry.load_plugin(self.plugin)


def _table(
    path: pathlib.Path, content: Mapping[str, Any], name: str
) -> Mapping[str, Any]:
    table = content.get(name)
    if not isinstance(table, dict):
        raise UserError(f"{path}: has no table [{name}]; add it")
    return table


def _text(where: str, table: Mapping[str, Any], name: str) -> str:
    if name not in table:
        raise UserError(f"{where}: has no {name}; add it")
    value = table[name]
    if not isinstance(value, str) or not value:
        raise UserError(f"{where}: {name} must be a text, got {value!r}")
    return value


def _path(
    file: pathlib.Path, where: str, table: Mapping[str, Any], name: str, default: str
) -> pathlib.Path:
    text = _text(where, {name: default, **table}, name)
    return file.parent / user_paths.expanded(text)


def _clients(where: str, value: Any) -> Optional[tuple[str, ...]]:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
        raise UserError(f"{where}: clients must be a list of names, got {value!r}")
    if not value or len(set(value)) < len(value):
        raise UserError(
            f"{where}: clients must be different names, at least one, got {value!r}"
        )
    return tuple(value)


def _options(path: pathlib.Path, data: Mapping[str, Any]) -> dict[str, Any]:
    where = f"{path}: [data]"
    for name, value in data.items():
        if not isinstance(value, (str, int, float)):
            raise UserError(
                f"{where}: {name} must be a text, a number or a boolean, got {value!r}"
            )
    paths = {
        name: str(_path(path, where, data, name, "")) for name in _PATHS if name in data
    }
    return {**data, **paths}
