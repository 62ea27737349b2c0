"""Levels that are written differently although they may be the same level."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def plain(text: str) -> str:
    """The text without case, spaces and accents; a number as a number.

    Example:
      >>> from tfl_research.data.tables.agreement import spellings
      >>> spellings.plain("Béta Blocker") == spellings.plain("beta  blocker")
      True
      >>> spellings.plain("1.0") == spellings.plain("01")
      True
    """
    try:
        return repr(float(text))
    except ValueError:
        pass
    decomposed = unicodedata.normalize("NFKD", text)
    bare = "".join(c for c in decomposed if not unicodedata.combining(c))
    return "".join(bare.casefold().split())


def alike(levels: Iterable[str]) -> list[list[str]]:
    """Groups of two or more levels that differ by case, space or accent alone."""
    groups: dict[str, list[str]] = {}
    for level in levels:
        groups.setdefault(plain(level), []).append(level)
    return [group for group in groups.values() if len(group) > 1]
