"""Declarations that would settle how the cells of a column are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Optional

from tfl_research.data.tables import written
from tfl_research.data.tables.cells import shown
from tfl_research.data.tables.comparison.cells import Cell
from tfl_research.data.tables.comparison.finding import Choice
from tfl_research.data.tables.notation import (
    BOOLEAN,
    DATE,
    INTEGER,
    NUMBER,
    TEXT,
    Notation,
)

# (decimal, thousands) signs of numbers, the usual ones first.
_SIGNS = (
    (".", ","),
    (",", ""),
    (",", "."),
    (".", " "),
    (",", " "),
    (".", "'"),
    (",", "'"),
    (".", "_"),
)
_FORMATS = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d"),
    *("%d.%m.%Y", "%m.%d.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y"),
    *("%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%Y-%m", "%d %B %Y", "%d %b %Y"),
    *("%B %d, %Y", "%b %d, %Y", "%d-%b-%Y", "%b %Y", "%B %Y", "%Y%m%d"),
    *("%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"),
    *("%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%H:%M", "%H:%M:%S"),
)
# The longest text that may be offered as a word for no value.
LONGEST = 80
# Ranges are left open: what is known without the files belongs there.
OPEN_RANGE = {"minimum": None, "maximum": None}
_MOST_LEVELS = 100


def _fits(notation: Notation, cells: Iterable[Cell]) -> Optional[list[Any]]:
    """The values of the cells by a notation; None where one is not written so."""
    import pandas as pd

    try:
        found = notation.read("", pd.Series([cell.raw for cell in cells], dtype=object))
    except ValueError:
        return None
    return list(found)


def _number(notation: Notation, cells: Sequence[Cell], example: Cell) -> list[Choice]:
    if _fits(notation, cells) is None:
        return []
    values = _fits(notation, [example]) or [None]
    meaning = f"{shown(example.text)} is {_figure(values[0])}"
    return [_of(notation, meaning)]


def _figure(value: Any) -> str:
    return f"{value:.17g}" if isinstance(value, float) else str(value)


def _of(notation: Notation, meaning: str) -> Choice:
    content = notation.content()
    return Choice({**content, **OPEN_RANGE}, meaning, content)


def as_categories(cells: Iterable[Cell], **entries: Any) -> list[Choice]:
    """Each text is a category of its own, exactly as it is written."""
    levels = sorted({cell.text for cell in cells})
    if len(levels) > _MOST_LEVELS:
        return []
    entry = {"type": TEXT, "categories": levels, **entries}
    short = {"type": TEXT, "categories": levels if len(levels) <= 4 else "..."}
    return [Choice(entry, "texts, each its own category", {**short, **entries})]


def of_ambiguous(kind: str, cells: Sequence[Cell], example: Cell) -> list[Choice]:
    """The choices for a column of numbers and of cells of an ambiguous kind.

    Args:
      kind: the ambiguous kind, see `written`.
      cells: all cells of the column.
      example: one of that kind.
    """
    found: list[Choice] = []
    if kind == written.PADDED:
        found += _number(Notation(INTEGER), cells, example)
        found += [] if found else _number(Notation(NUMBER), cells, example)
    elif kind in (written.DATE, written.TIME):
        for name in _FORMATS:
            notation = Notation(DATE, date_format=name)
            if _fits(notation, cells) is not None:
                found.append(_of(notation, _days(name)))
    elif kind == written.GROUPED:
        seen = set()
        for decimal, thousands in _SIGNS:
            notation = Notation(NUMBER, decimal=decimal, thousands=thousands)
            values = _fits(notation, cells)
            if values is not None and tuple(values) not in seen:
                seen.add(tuple(values))
                found += _number(notation, cells, example)
    elif kind != written.ODD_NUMBER:
        # Whoever writes −5 or (5) has to say so in the files: no sign is a unit.
        for unit in dict.fromkeys(_unit(cell.text) for cell in cells):
            for decimal, thousands in ((".", ""), *_SIGNS) if unit else ():
                notation = Notation(NUMBER, decimal, thousands, unit)
                choices = _number(notation, cells, example)
                if choices and not found:
                    found += choices
    return [*found, *as_categories(cells)]


def _days(date_format: str) -> str:
    has_year = "y" in date_format.lower()
    return "days since 1970-01-01" if has_year else "part of a day"


def _unit(text: str) -> str:
    return text.strip("+-0123456789.,'’_ \u00a0\u2007\u2009\u202f")


def of_mixture(
    numbers: Sequence[Cell], texts: Sequence[Cell], no_value: Sequence[Cell]
) -> list[Choice]:
    """The choices for a column of numbers, texts and words for no value."""
    cells = [*numbers, *texts]
    words = sorted({cell.text for cell in texts})
    found = []
    if all(c.text.lower() in written.YES | written.NO for c in cells):
        found += of_truth(cells)
    elif len(words) <= 5 and max(map(len, words)) <= LONGEST:
        usual = {cell.text for cell in no_value}
        notation = Notation(NUMBER, missing_values=("", *sorted({*words, *usual})))
        found.append(_of(notation, f"numbers, and no value for {', '.join(words)}"))
    return [*found, *as_categories(cells)]


def of_truth(cells: Iterable[Cell]) -> list[Choice]:
    """All cells are words for true and false."""
    spellings: dict[str, list[str]] = {}
    for text in sorted({cell.text for cell in cells}):
        word = text.lower()
        if word not in ("true", "false"):
            spellings.setdefault("true" if word in written.YES else "false", []).append(
                text
            )
    entry = {"type": BOOLEAN, **({"spellings": spellings} if spellings else {})}
    return [Choice(entry, "truth values", entry)]


def of_groups(cells: Iterable[Cell], groups: Iterable[Sequence[Cell]]) -> list[Choice]:
    """Groups of cells whose texts may be one level, or each its own."""
    cells = list(cells)
    spellings: dict[str, list[str]] = {}
    for group in groups:
        rows: dict[str, int] = {}
        for cell in group:
            rows[cell.text] = rows.get(cell.text, 0) + cell.count
        # The most frequent one, of several the first.
        meant = max(rows, key=rows.__getitem__)
        others = sorted({cell.text for cell in group} - {meant})
        if others:
            spellings[meant] = others
    replaced = {text for others in spellings.values() for text in others}
    levels = sorted({cell.text for cell in cells} - replaced)
    found = []
    if all(cell.text.lower() in written.YES | written.NO for cell in cells):
        found += of_truth(cells)
    if spellings:
        entry = {"type": TEXT, "categories": levels, "spellings": spellings}
        short = {"spellings": spellings if len(spellings) <= 4 else "..."}
        found.append(Choice(entry, "the same level", short))
    if len({cell.text for cell in cells}) > len(levels):
        found += as_categories(cells)
    return found
