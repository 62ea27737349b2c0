"""Parses flags with lists: values with commas, and further settings by value."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from tfl_research.cli.flag_values import flags
from tfl_research.cli.preset import Preset
from tfl_research.errors import SettingError
from tfl_research.settings import Settings
from tfl_research.settings.kinds import LARGEST_SEED

# Settings that every sweep sets for each of its runs.
_SWEPT = ("seed", "output_dir")


def split_settings(
    preset: Preset, field: str, text: str, arguments: str, swept: Sequence[str]
) -> dict[str, Any]:
    """Parses the settings in a part of a flag's text, split as a shell would do.

    Args:
      preset: the preset that has the settings as flags.
      field, text: the flag and its whole text.
      arguments: the part of the text.
      swept: names of the settings that the sweep itself sets, in addition to seed and
        folder. They are refused, since tables would show a run under the sweep's value.

    Raises:
      SettingError: a quotation does not end, a flag is unknown, a value is refused, or
        the sweep sets a flag itself.
    """
    try:
        parts = shlex.split(arguments)
    except ValueError as error:
        raise SettingError(f"--{field}={text}: {error}; close it") from None
    for part in parts:
        name = part.lstrip("-").partition("=")[0]
        if part.startswith("-") and name in (*_SWEPT, *swept):
            raise SettingError(
                f"--{field}={text}: the sweep sets --{name}; leave it out"
            )
    given: dict[str, Any] = flags.further(preset, field, text, parts)
    return given


def further_settings(
    preset: Preset,
    group: Settings,
    field: str,
    owner: str,
    known: Sequence[str],
    swept: Sequence[str] = (),
) -> dict[str, dict[str, Any]]:
    """Parses a repeated flag with texts "NAME: ARGUMENTS"; returns settings by name.

    Args:
      preset: the preset that has the arguments as flags.
      group, field: the flag.
      owner: the flag whose values are the names.
      known: the values of `owner`.
      swept: see `split_settings`.

    Raises:
      SettingError: a text does not begin with a known name and a colon; see also
        `split_settings`.
    """
    settings: dict[str, dict[str, Any]] = {}
    for text in getattr(group, field):
        name, colon, arguments = text.partition(":")
        name = name.strip()
        if not colon or name not in known:
            raise SettingError(
                f"--{field}={text}: must begin with one of --{owner} and a colon"
            )
        own = split_settings(preset, field, text, arguments, swept)
        settings.setdefault(name, {}).update(own)
    return settings


def epsilon_value(text: str) -> float:
    """Parses a privacy budget; raises ValueError unless it is above 0."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise ValueError("must be a number above 0")
    return value


def seed_value(text: str) -> int:
    """Parses a seed; raises ValueError for a seed that no run takes."""
    if not text.isdecimal() or int(text) > LARGEST_SEED:
        raise ValueError(
            f"must be a whole number, at least 0 and at most {LARGEST_SEED}"
        )
    return int(text)


def fraction_value(text: str) -> float:
    """Parses a share; raises ValueError unless it is above 0 and at most 1."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value <= 1:
        raise ValueError("must be a number above 0 and at most 1")
    return value
