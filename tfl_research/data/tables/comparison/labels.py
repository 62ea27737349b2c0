"""The label of silos: classes that may be the same, and cells that are no labels."""

from __future__ import annotations

import dataclasses

from tfl_research.data.tables import written
from tfl_research.data.tables.comparison import choices, levels, numbers
from tfl_research.data.tables.comparison.cells import TYPED_DATE, ColumnCells
from tfl_research.data.tables.comparison.finding import (
    NOTED,
    REFUSED,
    Choice,
    Finding,
)
from tfl_research.errors import quoted


def of_classes(column: ColumnCells) -> list[Finding]:
    """Findings on a label of classes."""
    name = column.column
    found = []
    for cell in column.words:
        text = (
            f"{column.at(cell)}: the label {quoted(cell.raw)} may be a class, or no "
            "value"
        )
        cells = [*column.cells, cell]
        settled = [
            _classes(choice, f"{cell.text} is a class")
            for choice in choices.as_categories(cells, missing_values=[""])
        ]
        found.append(_label(name, text, settled))
        break
    for cell in column.cells:
        if cell.kind == TYPED_DATE:
            text = f"{column.at(cell)}: {quoted(cell.raw)} is a date, not a class"
            return [*found, _label(name, text, [])]
    listed = levels.found(column, f"label {name!r}", is_feature=False)
    found += [
        dataclasses.replace(
            finding,
            choices=tuple(_classes(c, c.meaning) for c in finding.choices)
            + (_as_integers(column) if finding.fate == REFUSED else ()),
        )
        for finding in listed
    ]
    return [*found, *_alone(column)]


def _alone(column: ColumnCells) -> list[Finding]:
    """Classes that a single file of several has."""
    files: dict[str, set[str]] = {}
    for cell in column.cells:
        files.setdefault(cell.text, set()).add(cell.silo.path.name)
    if len(column.by_silo) < 2:
        return []
    alone = [f"{quoted(t)} ({next(iter(f))})" for t, f in files.items() if len(f) == 1]
    if not alone:
        return []
    more = ", ..." if len(alone) > 5 else ""
    text = f"label {column.column!r}: in one file only: {', '.join(alone[:5])}{more}"
    return [Finding(column.column, text, NOTED, is_feature=False)]


def _as_integers(column: ColumnCells) -> tuple[Choice, ...]:
    """All classes are integers, however they are written."""
    wholes = [written.whole(cell.text) for cell in column.cells]
    if any(whole is None for whole in wholes):
        return ()
    listed = sorted({whole for whole in wholes if whole is not None}, key=int)
    entry = {"type": "integer", "classes": listed}
    return (Choice(entry, "integers, 01 and 1.0 are 1", entry),)


def _classes(choice: Choice, meaning: str) -> Choice:
    """A choice of a column of categories as one of the label."""

    def renamed(entry: dict) -> dict:
        return {("classes" if k == "categories" else k): v for k, v in entry.items()}

    entry = renamed(dict(choice.entry))
    if entry.get("type") == "boolean":
        entry["classes"] = ["false", "true"]
    short = renamed(dict(choice.short))
    return Choice(entry, meaning.replace("category", "class"), short)


def of_numbers(column: ColumnCells) -> list[Finding]:
    """Findings on a label that is a number."""
    found = [*numbers.ambiguous(column), *numbers.mixture(column)]
    cells = column.cells
    if not found and cells and not any(cell.is_number for cell in cells):
        text = (
            f"{column.at(cells[0])}: the label {quoted(cells[0].raw)} is not a number"
        )
        return [_label(column.column, text, [])]
    found = found or numbers.inexact(column)
    return [
        _label(
            finding.column,
            finding.text,
            [c for c in finding.choices if "categories" not in c.entry],
            finding.fate,
        )
        for finding in found
    ]


def of_several(column: ColumnCells) -> list[Finding]:
    """Findings on one of several labels that are each true or false."""
    name = column.column
    texts = {cell.text for cell in column.cells}
    folded = {text.lower() for text in texts}
    odd = [c for c in column.cells if c.text.lower() not in written.YES | written.NO]
    if odd:
        text = (
            f"{column.at(odd[0])}: the label {quoted(odd[0].raw)} is neither true "
            "nor false"
        )
        return [_label(name, text, [])]
    usual = ({"0", "1"}, {"true", "false"}, {"yes", "no"})
    if len(texts) > 2 or not any(folded <= words for words in usual):
        text = f"label {name!r}: {', '.join(sorted(texts))} are words for true or false"
        return [_label(name, text, choices.of_truth(column.cells))]
    return []


def _label(name: str, text: str, settled: list[Choice], fate: str = REFUSED) -> Finding:
    return Finding(name, text, fate, tuple(settled), is_feature=False)
