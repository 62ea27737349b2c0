"""The comparison of all columns of a folder's files."""

from __future__ import annotations

from collections.abc import Sequence

from tfl_research.data.tables import cells as plain_cells, label as kinds, written
from tfl_research.data.tables.comparison import (
    cells,
    labels as label_findings,
    levels,
    numbers,
    scales,
    spellings,
)
from tfl_research.data.tables.comparison.finding import NOTED, SAID, Finding
from tfl_research.data.tables.files import Silo
from tfl_research.data.tables.schema import Schema

_FEW_ROWS = 20


def features(silos: Sequence[Silo], names: Sequence[str]) -> list[Finding]:
    """Findings on columns that no schema declares."""
    return [
        finding
        for name in names
        for finding in [*_name(name, is_feature=True), *_feature(silos, name)]
    ]


def _name(name: str, *, is_feature: bool) -> list[Finding]:
    """A finding on a column's name whose letters a conversion changed."""
    original = spellings.misread(name)
    if original is not None:
        changed = f"is perhaps {original!r}"
    elif written.LOST in name:
        changed = "lost a letter"
    else:
        return []
    what = "column" if is_feature else "label"
    text = (
        f"{what} {name!r} {changed}: a conversion changed the name; save the file "
        "again from its source, as UTF-8, or rename the column"
    )
    return [Finding(name, text, SAID, is_feature=is_feature)]


def _feature(silos: Sequence[Silo], name: str) -> list[Finding]:
    column = cells.of_column(silos, name)
    if not column.cells:
        return []
    for look in (numbers.ambiguous, numbers.mixture):
        found = look(column)
        if found:
            return [*found, *_words_beside(column, found)]
    if all(cell.is_number for cell in column.cells):
        found = numbers.inexact(column)
        if found:
            return found
        values = [
            plain_cells.numbers(plain_cells.plain(silo.frame[name])).to_numpy()
            for silo in silos
        ]
        return [*numbers.looks(column), *scales.of_values(name, silos, values)]
    return [
        *levels.found(column, f"column {name!r}"),
        *levels.words(column),
        *_different(column),
    ]


def _words_beside(column: cells.ColumnCells, found: list[Finding]) -> list[Finding]:
    """Words for no value, where texts stay categories."""
    return [] if any(f.choices for f in found) else levels.words(column)


def _different(column: cells.ColumnCells) -> list[Finding]:
    """A note on texts that are all different."""
    rows = sum(cell.count for cell in column.cells)
    if rows <= _FEW_ROWS or len({cell.text for cell in column.cells}) < rows:
        return []
    text = (
        f"column {column.column!r} has a different text in each of {rows} rows: if it "
        f"is an identifier, leave it out by drop_columns={column.column}"
    )
    return [Finding(column.column, text, NOTED)]


def label(silos: Sequence[Silo], names: Sequence[str], kind: str) -> list[Finding]:
    """Findings on the label's columns, of a kind of `label.KINDS`."""
    look = {
        kinds.CLASSES: label_findings.of_classes,
        kinds.A_NUMBER: label_findings.of_numbers,
        kinds.MULTI_LABEL: label_findings.of_several,
    }[kind]
    return [
        finding
        for name in names
        for finding in [
            *_name(name, is_feature=False),
            *look(cells.of_column(silos, name)),
        ]
    ]


def declared(
    silos: Sequence[Silo], schema: Schema, names: Sequence[str]
) -> list[Finding]:
    """Finds how files differ in columns that a schema declares as numbers.

    Args:
      silos: the files.
      schema: declares the columns.
      names: the columns to compare; others are left out.
    """
    found: list[Finding] = []
    for column in schema.columns:
        if not column.is_numeric or column.column not in names:
            continue
        values = []
        for silo in silos:
            raw = silo.frame[column.column]
            read = raw if column.notation else plain_cells.plain(raw)
            read = column.read(read, silo.at)
            values.append(plain_cells.finite_numbers(column.column, read, silo.at))
        found += scales.of_values(column.column, silos, values)
    return found
