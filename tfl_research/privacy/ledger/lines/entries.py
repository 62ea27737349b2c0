"""Entries of a run's lines in a ledger: rounds, restarts and further releases."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Union

from tfl_research.errors import SettingError
from tfl_research.privacy.accounting import events
from tfl_research.privacy.accounting.events import Event


class MissingPluginError(SettingError):
    """A ledger has an event whose plugin was not imported."""

    def __init__(self, where: str, kind: Any, plugin: Any):
        if plugin == "__main__":
            super().__init__(
                f"{where}: is of kind {kind!r}, which the program that wrote the line "
                "registers itself; register the event before the ledger is opened, or "
                "put its class into a module and give that with --plugin"
            )
            return
        super().__init__(
            f"{where}: is of kind {kind!r}, which the plugin {plugin} registers; give "
            f"--plugin={plugin} (in Python, import it first)"
        )


@dataclasses.dataclass(frozen=True)
class Round:
    """A charged round.

    Attributes:
      round: number of the round, from 1.
      event: the event of the round.
    """

    round: int
    event: Event


@dataclasses.dataclass(frozen=True)
class Restart:
    """The start of a new attempt: rounds are repeated with new noise, charged again.

    Attributes:
      restart: number of the restart, from 1.
      after: the last round that is not repeated.
    """

    restart: int
    after: int


@dataclasses.dataclass(frozen=True)
class Release:
    """A release that is charged in addition to the rounds.

    Attributes:
      release: the name of the release, such as "evaluation".
      round: the last round before the release; 0 before the first round.
      event: the event of the release.
    """

    release: str
    round: int
    event: Event


Entry = Union[Round, Restart, Release]


def entry_fields(entry: Entry) -> dict[str, Any]:
    """Returns the fields of an entry's line."""
    if isinstance(entry, Restart):
        return {"restart": entry.restart, "after": entry.after}
    if isinstance(entry, Release):
        first: dict[str, Any] = {"release": entry.release, "round": entry.round}
    else:
        first = {"round": entry.round}
    fields: dict[str, Any] = {**first, "event": entry.event.to_dict()}
    plugin = events.plugin_of(entry.event)
    return fields if plugin is None else {**fields, "plugin": plugin}


def parse_entry(where: str, fields: Mapping[str, Any], others: set[str]) -> Entry:
    """Reads the entry that a line's fields describe.

    Args:
      where: the beginning of the messages, which names file and line.
      fields: the fields of the line.
      others: names of fields that the line must have in addition to the entry's.

    Raises:
      MissingPluginError: the plugin that registers the event's kind was not imported.
      ValueError: the line has other fields, or the event is impossible.
    """
    if "restart" in fields:
        _check_names(where, fields, {"restart", "after", *others})
        return Restart(
            _number(where, fields, "restart"), _number(where, fields, "after")
        )
    if "release" in fields:
        _check_names(where, fields, {"release", "round", "event", *others})
        if not isinstance(fields["release"], str):
            raise ValueError(f"{where}: not a ledger line (the release has no name)")
        number = _number(where, fields, "round")
        return Release(fields["release"], number, _parse_event(where, fields))
    _check_names(where, fields, {"round", "event", *others})
    return Round(_number(where, fields, "round"), _parse_event(where, fields))


def _number(where: str, fields: Mapping[str, Any], name: str) -> int:
    value = fields[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(
            f"{where}: not a ledger line ({name} must be a whole number, got {value!r})"
        )
    return value


def _check_names(where: str, fields: Mapping[str, Any], expected: set[str]) -> None:
    if set(fields) - {"plugin"} != expected:
        raise ValueError(
            f"{where}: not a ledger line (has {', '.join(fields)}; expected "
            f"{', '.join(sorted(expected))})"
        )


def _parse_event(where: str, fields: Mapping[str, Any]) -> Event:
    try:
        return events.event_from_dict(fields["event"])
    except events.UnknownKindError as error:
        if "plugin" not in fields:
            raise ValueError(f"{where}: not a ledger line ({error})") from error
        raise MissingPluginError(where, error.kind, fields["plugin"]) from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: not a ledger line ({error})") from error
