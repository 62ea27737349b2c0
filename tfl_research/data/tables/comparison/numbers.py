"""Columns of numbers: cells that can be read in several ways, or not exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional

from tfl_research.data.tables import written
from tfl_research.data.tables.comparison import choices
from tfl_research.data.tables.comparison.cells import TYPED_DATE, Cell, ColumnCells
from tfl_research.data.tables.comparison.finding import NOTED, SAID, Choice, Finding
from tfl_research.data.tables.notation import NUMBER, TEXT, Notation
from tfl_research.errors import quoted, shortened

_LARGEST_EXACT = 2**53
# The largest number of float32, the type of features.
_LARGEST_SINGLE = 3.4028234663852886e38
_FEW_ROWS = 20


def ambiguous(column: ColumnCells) -> list[Finding]:
    """Findings on cells that look like numbers, dates or times, but not plainly so."""
    cells = column.cells
    typed = next((cell for cell in cells if cell.kind == TYPED_DATE), None)
    if typed is not None:
        kind = "date" if type(typed.raw).__name__ == "date" else "timestamp"
        entry = {"type": "date", "format": "%Y-%m-%d", **choices.OPEN_RANGE}
        short = {"type": "date", "format": "%Y-%m-%d"}
        text = (
            f"{typed.silo.path}: column {column.column!r} is of type {kind}; expected "
            "numbers, text or booleans"
        )
        return [
            Finding(
                column.column,
                text,
                choices=(Choice(entry, "days since 1970-01-01", short),),
            )
        ]
    odd = [c for c in cells if c.kind in (*written.AMBIGUOUS, written.QUANTITY)]
    if not odd:
        return []
    plain = [c for c in cells if c.kind in (written.TEXT, written.TRUTH)]
    first = odd[0]
    where = f"{column.at(first)}: {quoted(first.raw)} is written like {first.kind}"
    if plain:
        if any(cell.is_number for cell in cells):
            return []
        text = (
            f"{where}, among texts such as {quoted(plain[0].raw)}: taken for a category"
        )
        return [Finding(column.column, text, SAID)]
    found = choices.of_ambiguous(first.kind, cells, first)
    text = f"{where}, which can be read in several ways"
    return [Finding(column.column, text, choices=tuple(found))]


def mixture(column: ColumnCells) -> list[Finding]:
    """Findings on a column with numbers and texts.

    The majority of a file's cells says which of the two its column is.
    """
    kinds: list[tuple[tuple[Cell, ...], Optional[bool]]] = []
    numbers = [cell for cell in column.cells if cell.is_number]
    texts = [cell for cell in column.cells if not cell.is_number]
    if not numbers or not texts:
        return []
    found = tuple(choices.of_mixture(numbers, texts, column.words))
    for cells in column.by_silo:
        total = sum(cell.count for cell in cells)
        mine = sum(cell.count for cell in cells if cell.is_number)
        kinds.append((cells, None if not total else 2 * mine > total))
    numeric = [cells for cells, kind in kinds if kind]
    textual = [cells for cells, kind in kinds if kind is False]
    for cells in numeric:
        for cell in cells:
            if not cell.is_number:
                text = f"{column.at(cell)}: {quoted(cell.raw)} is not a number"
                return [Finding(column.column, text, choices=found)]
    for cells in textual if not numeric else ():
        for cell in cells:
            if cell.is_number:
                text = (
                    f"{column.at(cell)}: {quoted(cell.raw)} is a number, but most "
                    "cells are text"
                )
                return [Finding(column.column, text, choices=found)]
    cell = next(c for c in textual[0] if not c.is_number)
    text = (
        f"{column.at(cell)}: {quoted(cell.raw)} is text, but the column holds "
        f"numbers in {numeric[0][0].silo.path}"
    )
    return [Finding(column.column, text, choices=found)]


def inexact(column: ColumnCells) -> list[Finding]:
    """Findings on plain numbers that a feature of float32 cannot stand for."""
    for cell in column.cells:
        where = f"{column.at(cell)}: {quoted(cell.raw)}"
        if cell.kind == written.NOT_FINITE or math.isinf(float(cell.raw)):
            return [
                Finding(
                    column.column, f"{where} is not finite", choices=_no(column, cell)
                )
            ]
        number = float(cell.raw)
        if cell.kind == written.INTEGER and abs(int(cell.raw)) > _LARGEST_EXACT:
            text = (
                f"{where} is an integer beyond 2^53, which float64 rounds: is it an "
                "identifier?"
            )
            return [Finding(column.column, text, choices=tuple(_texts(column, [cell])))]
        if abs(number) > _LARGEST_SINGLE:
            text = f"{where} is beyond the numbers of float32"
            return [Finding(column.column, text, choices=_no(column, cell))]
        exact = written.value(cell.text) if isinstance(cell.raw, str) else None
        if number == 0 and exact:
            text = f"{where} is too small for float64, which makes it 0"
            return [Finding(column.column, text, choices=_no(column, cell))]
    return []


def _texts(column: ColumnCells, shown: Sequence[Cell]) -> list[Choice]:
    found = choices.as_categories(column.cells)
    return found or [
        Choice({"type": TEXT, "categories": [c.text for c in shown]}, "texts", {})
    ]


def _no(column: ColumnCells, cell: Cell) -> tuple[Choice, ...]:
    """The choice that a cell means no value."""
    words = sorted({cell.text, *(word.text for word in column.words)})
    if len(cell.text) > choices.LONGEST:
        return ()
    notation = Notation(NUMBER, missing_values=("", *words))
    content = notation.content()
    return (
        Choice({**content, **choices.OPEN_RANGE}, f"{cell.text} is no value", content),
    )


def looks(column: ColumnCells) -> list[Finding]:
    """Findings on numbers that look like identifiers, dates or codes."""
    cells, name = column.cells, column.column
    rows = sum(cell.count for cell in cells)
    if any(cell.kind != written.INTEGER for cell in cells) or rows <= _FEW_ROWS:
        return []
    texts = {cell.text for cell in cells}
    if all(_is_day(text) for text in texts):
        text = f"column {name!r} looks like dates, such as {shortened(cells[0].text)}"
        entry = {"type": "date", "format": "%Y%m%d", **choices.OPEN_RANGE}
        short = {"type": "date", "format": "%Y%m%d"}
        return [
            Finding(name, text, SAID, (Choice(entry, "days since 1970-01-01", short),))
        ]
    if len(texts) == rows:
        text = (
            f"column {name!r} has a different whole number in each of {rows} rows: if "
            f"it is an identifier, leave it out by drop_columns={name}"
        )
        return [Finding(name, text, SAID)]
    if 3 <= len(texts) <= 10:
        listed = ", ".join(sorted(texts, key=int))
        text = (
            f"column {name!r} has only the numbers {listed}: if they are codes, "
            "declare its categories in schema.json"
        )
        return [Finding(name, text, NOTED)]
    return []


def _is_day(text: str) -> bool:
    return (
        len(text) == 8
        and text.isdigit()
        and "1900" <= text[:4] <= "2100"
        and "01" <= text[4:6] <= "12"
        and "01" <= text[6:] <= "31"
    )
