"""Parses options of `scripts/federation schema`: a column and a statement about it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfl_research.data.tables.notation import Notation


def names(text: str) -> tuple[str, ...]:
    """Parses a list of names that are separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def range(text: str) -> tuple[str, tuple[float, float]]:
    """Parses a column and its range; raises ValueError for another form."""
    column, _, ends = text.rpartition("=")
    low, colon, high = ends.partition(":")
    try:
        values = float(low), float(high)
    except ValueError:
        values = None
    if not column or not colon or values is None:
        raise ValueError(f"--range={text}: expected COLUMN=LOW:HIGH, as age=0:120")
    return column, values


def notation(text: str) -> tuple[str, Notation]:
    """Parses a column and its cells' notation; raises ValueError for another form."""
    from tfl_research.data.tables import schema_entries

    column, _, entry = text.partition("=")
    try:
        content = json.loads(entry)
    except ValueError:
        raise ValueError(
            f"--notation={text}: expected COLUMN=JSON, as "
            'price={"type": "number", "decimal": ","}'
        ) from None
    return column, schema_entries.notation_of(f"--notation={column}", content)


def levels(text: str) -> tuple[str, tuple[str, ...]]:
    """Parses a column and its levels; raises ValueError for another form."""
    column, _, levels = text.partition("=")
    if not column or not names(levels):
        raise ValueError(f"--levels={text}: expected COLUMN=LEVEL,..., as sex=F,M")
    return column, names(levels)
