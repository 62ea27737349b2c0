"""Flags that hold lists: values with commas, and arguments by value."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import TypeVar

from tfl_research.flags.declare import FlagError, FlagGroup

Value = TypeVar("Value")


def values(
    group: FlagGroup, field: str, convert: Callable[[str], Value]
) -> list[Value]:
    """The values of a flag that holds a list with commas, none twice.

    Raises:
      FlagError: an empty list, a value that `convert` refuses with a ValueError, or
        one that is given twice.
    """
    found: list[Value] = []
    for text in str(getattr(group, field)).split(","):
        try:
            value = convert(text.strip())
        except ValueError as error:
            raise group.refused(field, f"{text.strip()!r}: {error}") from None
        if value in found:
            raise group.refused(field, f"{text.strip()!r} is given twice")
        found.append(value)
    return found


# What every sweep sets for each of its runs.
_SWEPT = ("seed", "output_dir")


def split_arguments(
    field: str, text: str, arguments: str, swept: Sequence[str]
) -> list[str]:
    """The arguments in a part of a flag's text, as a shell splits them.

    Args:
      field, text: the flag and its whole text.
      arguments: the part.
      swept: names of the flags that the sweep itself sets, beside seed and folder. A
        run that was given others would be in the tables under the sweep's.

    Raises:
      FlagError: a quotation that does not end, or a flag that the sweep sets.
    """
    try:
        found = shlex.split(arguments)
    except ValueError as error:
        raise FlagError(f"--{field}={text}: {error}; close it") from None
    for argument in found:
        name = argument.lstrip("-").partition("=")[0]
        if argument.startswith("-") and name in (*_SWEPT, *swept):
            raise FlagError(f"--{field}={text}: the sweep sets --{name}; leave it out")
    return found


def further_arguments(
    group: FlagGroup,
    field: str,
    owner: str,
    known: Sequence[str],
    swept: Sequence[str] = (),
) -> dict[str, list[str]]:
    """Arguments by name, of a repeated flag whose texts are "NAME: ARGUMENTS".

    Raises:
      FlagError: a text that does not begin with one of the `known` values of the flag
        `owner`, or see `split_arguments`.
    """
    found: dict[str, list[str]] = {}
    for text in getattr(group, field):
        name, colon, arguments = text.partition(":")
        name = name.strip()
        if not colon or name not in known:
            raise FlagError(
                f"--{field}={text}: must begin with one of --{owner} and a colon"
            )
        found.setdefault(name, []).extend(
            split_arguments(field, text, arguments, swept)
        )
    return found


def epsilon_value(text: str) -> float:
    """A privacy budget; a ValueError unless it is above 0."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise ValueError("must be a number above 0")
    return value


def seed_value(text: str) -> int:
    """A seed; a ValueError unless it is a whole number of at least 0."""
    if not text.isdecimal():
        raise ValueError("must be a whole number, at least 0")
    return int(text)
