"""Columns of texts: levels that may be the same, and words that may be no value."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tfl_research.data.tables import written
from tfl_research.data.tables.comparison import choices, spellings
from tfl_research.data.tables.comparison.cells import Cell, ColumnCells
from tfl_research.data.tables.comparison.finding import SAID, Choice, Finding
from tfl_research.errors import quoted

_MOST_LEVELS = 200
# Texts that programs write for a missing value, beside `written.MISSING`.
_PERHAPS_MISSING = frozenset(
    (
        *("#n/a", "#na", "#value!", "#div/0!", "#ref!", "#name?", "#num!"),
        *("<na>", "nat", "nil", "n.a.", "-", "--", "."),
    )
)
# A level that differs from another by one letter, and has at most this share of the
# other level's rows, is perhaps a mistake in writing.
_RARE = 0.2


def found(column: ColumnCells, what: str, *, is_feature: bool = True) -> list[Finding]:
    """Findings on the levels of a column of texts.

    Args:
      column: the column.
      what: names the column in a finding.
      is_feature: whether it is a feature, or else the label.
    """
    cells = column.cells
    by_text: dict[str, list[Cell]] = {}
    for cell in cells:
        by_text.setdefault(cell.text, []).append(cell)
    if len(by_text) > _MOST_LEVELS:
        return []
    return [
        *_alike(column, what, by_text, is_feature),
        *_truths(column, what, by_text, is_feature),
        *_misspelt(column, what, by_text, is_feature),
        *_perhaps_missing(column, what, by_text, is_feature),
        *_damaged(column, what, by_text, is_feature),
    ]


def _damaged(
    column: ColumnCells, what: str, by_text: dict[str, list[Cell]], is_feature: bool
) -> list[Finding]:
    """Levels whose letters a conversion between encodings changed."""
    lines = []
    for text, cells in by_text.items():
        original = spellings.misread(text)
        if original is not None:
            lines.append(
                f"{quoted(text)} ({_where(cells)}) is perhaps {quoted(original)}"
            )
        elif written.LOST in text:
            lines.append(f"{quoted(text)} ({_where(cells)}) lost a letter")
    if not lines:
        return []
    text = (
        f"{what}: {'; '.join(lines[:3])}{' and more' if len(lines) > 3 else ''}: a "
        "conversion changed the letters; save the file again from its source, as UTF-8"
    )
    return [Finding(column.column, text, SAID, is_feature=is_feature)]


def _perhaps_missing(
    column: ColumnCells, what: str, by_text: dict[str, list[Cell]], is_feature: bool
) -> list[Finding]:
    texts = sorted(text for text in by_text if text.lower() in _PERHAPS_MISSING)
    if not texts:
        return []
    text = (
        f"{what}: {', '.join(texts)} is a level of its own; if it stands for a missing "
        "value, declare missing_values in schema.json"
    )
    return [Finding(column.column, text, SAID, is_feature=is_feature)]


def _where(cells: Sequence[Cell]) -> str:
    files = list(dict.fromkeys(cell.silo.path.name for cell in cells))
    return ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")


def _raw(cells: Sequence[Cell]) -> str:
    """The spellings with their files: 'Yes' (a.csv) and 'yes ' (b.csv)."""
    by_raw: dict[str, list[Cell]] = {}
    for cell in cells:
        raw = cell.raw if isinstance(cell.raw, str) else cell.text
        by_raw.setdefault(raw, []).append(cell)
    return " and ".join(
        f"{quoted(raw)} ({_where(mine)})" for raw, mine in by_raw.items()
    )


def _alike(
    column: ColumnCells, what: str, by_text: dict[str, list[Cell]], is_feature: bool
) -> list[Finding]:
    groups = spellings.alike(by_text)
    padded = [
        [text]
        for text, cells in by_text.items()
        if len({c.raw for c in cells if isinstance(c.raw, str)}) > 1
        and not any(text in group for group in groups)
    ]
    if not groups and not padded:
        return []
    alike = [[cell for text in group for cell in by_text[text]] for group in groups]
    settled = tuple(choices.of_groups(column.cells, alike))
    lines = [_raw(cells) for cells in alike]
    lines += [_raw(by_text[text]) for (text,) in padded]
    text = (
        f"{what}: {'; '.join(lines[:3])}{' and more' if len(lines) > 3 else ''} differ "
        "only in case, spaces, accents, quotation marks, number format or a doubled "
        "letter"
    )
    if not settled:
        levels = sorted(by_text)
        settled = (
            Choice(
                {"type": "text", "categories": levels},
                "space around a cell is no part of it",
                {"type": "text", "categories": levels if len(levels) <= 4 else "..."},
            ),
        )
    return [Finding(column.column, text, choices=settled, is_feature=is_feature)]


def _truths(
    column: ColumnCells, what: str, by_text: dict[str, list[Cell]], is_feature: bool
) -> list[Finding]:
    """Several words for true, or for false."""
    words = {spellings.plain(text) for text in by_text}
    if len(words) <= 2 or not words <= written.YES | written.NO:
        return []
    firsts = [cells[0] for cells in by_text.values()]
    text = f"{what}: {_raw(firsts)} are several words for true or false"
    settled = (
        *choices.of_truth(column.cells),
        *choices.as_categories(column.cells),
    )
    return [Finding(column.column, text, choices=settled, is_feature=is_feature)]


def _misspelt(
    column: ColumnCells, what: str, by_text: dict[str, list[Cell]], is_feature: bool
) -> list[Finding]:
    rows = {text: sum(c.count for c in cells) for text, cells in by_text.items()}
    lines = []
    for one, two in itertools.combinations(by_text, 2):
        if not spellings.differ_by_a_letter(one, two):
            continue
        rare, often = sorted((one, two), key=lambda text: rows[text])
        if rows[rare] <= max(1, _RARE * rows[often]):
            lines.append(
                f"{quoted(rare)} ({rows[rare]} rows; {_where(by_text[rare])}) is "
                f"perhaps {quoted(often)} ({rows[often]} rows)"
            )
    if not lines:
        return []
    text = f"{what}: {'; '.join(lines[:3])}: each is a level of its own"
    return [Finding(column.column, text, SAID, is_feature=is_feature)]


def words(column: ColumnCells) -> list[Finding]:
    """Findings on words that may be a level, such as a region NA or a drug none."""
    if not column.words or all(cell.is_number for cell in column.cells):
        return []
    name, first = column.column, column.words[0]
    texts = [cell.text for cell in column.cells]
    two_letters = all(len(t) == 2 and t.isalpha() and t.isupper() for t in texts)
    for cell in column.words:
        is_level = cell.text.lower() == "none" or (two_letters and cell.text == "NA")
        if is_level:
            levels = [*column.cells, cell]
            text = f"{column.at(cell)}: {quoted(cell.raw)} may be a level, or no value"
            no_value = choices.as_categories(
                column.cells,
                missing_values=["", *sorted({c.text for c in column.words})],
            )
            is_one = choices.as_categories(levels, missing_values=[""])
            settled = [
                *(_renamed(c, f"{cell.text} is a level") for c in is_one),
                *(_renamed(c, f"{cell.text} is no value") for c in no_value),
            ]
            return [Finding(name, text, choices=tuple(settled))]
    rows = sum(cell.count for cell in column.words)
    listed = ", ".join(sorted({cell.text for cell in column.words}))
    text = (
        f"{column.at(first)}: {listed} is read as a missing value in {rows} rows; if "
        "it is a level, declare it among the column's categories in schema.json"
    )
    return [Finding(name, text, SAID)]


def _renamed(choice: Choice, meaning: str) -> Choice:
    return Choice(choice.entry, meaning, choice.short)
