"""The levels of categories, and the classes of the label, of several sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfl_research.data.tables.agreement.decisions import (
    ConflictError,
    Decisions,
    left_out,
)
from tfl_research.data.tables.agreement.draft import CategoryDraft, Draft
from tfl_research.data.tables.comparison import spellings
from tfl_research.errors import quoted


def categorical(
    name: str,
    columns: Mapping[str, CategoryDraft],
    drafts: Sequence[Draft],
    decisions: Decisions,
) -> dict[str, Any]:
    """The entry of a column of categories; ConflictError if the sites disagree."""
    holders: dict[str, list[str]] = {}
    for site, column in columns.items():
        for level in column.categories:
            holders.setdefault(level, []).append(site)
    for level in decisions.levels.get(name, ()):
        holders.setdefault(level, ["--levels"])
    if not holders:
        raise ConflictError(
            f"column {name!r}: no site published a level, because each level has "
            "fewer rows than its site's minimum_count; give "
            f"--levels={name}=LEVEL,..., or --drop_columns={name}"
        )
    _check_spellings(f"column {name!r}", name, holders, decisions)
    default = "zeros" if left_out(drafts) else "refuse"
    return {
        "categories": sorted(holders),
        "unknown": decisions.unknown or default,
    }


def _check_spellings(
    what: str,
    name: str,
    holders: Mapping[str, Sequence[str]],
    decisions: Decisions,
) -> None:
    if name in decisions.distinct:
        return
    conflicts = []
    for group in spellings.alike(sorted(holders)):
        written = " and ".join(f"{quoted(v)} ({', '.join(holders[v])})" for v in group)
        conflicts.append(
            f"{what}: {written} differ only in case, spaces, accents or the format of "
            "a number; correct the files of a site and draft again, or give "
            f"--distinct={name} if they mean different things"
        )
    if conflicts:
        raise ConflictError(*conflicts)


def classes(
    label_column: str, drafts: Sequence[Draft], decisions: Decisions
) -> list[str]:
    """The classes of the label, in order; ConflictError if the sites disagree."""
    holders: dict[str, list[str]] = {}
    for draft in drafts:
        for name in draft.classes:
            holders.setdefault(name, []).append(draft.site)
    for name in decisions.classes:
        holders.setdefault(name, ["--classes"])
    if len(holders) < 2:
        raise ConflictError(
            f"label {label_column!r}: the sites published "
            f"{', '.join(holders) or 'no class'}; expected at least two classes; give "
            "the other classes as --classes=NAME,...: a draft leaves out classes of "
            "too few rows"
        )
    _check_spellings(f"label {label_column!r}", label_column, holders, decisions)
    integers = [name for name in holders if _is_integer(name)]
    if 0 < len(integers) < len(holders):
        text = next(name for name in holders if name not in integers)
        raise ConflictError(
            f"label {label_column!r}: {integers[0]} "
            f"({', '.join(holders[integers[0]])}) is an integer and {quoted(text)} "
            f"({', '.join(holders[text])}) is text; name the classes alike at all "
            "sites"
        )
    return sorted(holders, key=int if integers else str)


def _is_integer(name: str) -> bool:
    try:
        int(name)
    except ValueError:
        return False
    return True
