"""Says which facts a draft of a schema discloses about a site's data."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from tfl_research.data.tables.agreement.draft import (
    CategoryDraft,
    ColumnDraft,
    Draft,
    EmptyDraft,
    NumberDraft,
)
from tfl_research.data.tables.agreement.drafting import Drafted

_WIDTH = 88
_MOST_NAMED = 10


def text(path: str, drafted: Drafted, *, missing_hidden: bool) -> str:
    """Lists everything that the file discloses, then the facts that it leaves out.

    Args:
      path: the path of the draft, for the text.
      drafted: the draft.
      missing_hidden: whether the draft says of all columns that cells may be missing.
    """
    draft = drafted.draft
    rows = [
        ("site", f"{draft.site!r}, its name"),
        (
            draft.label_column,
            f"the label, with {_listed('class', draft.classes)}"
            + _written(draft.label_notation),
        ),
        *((name, _column(column)) for name, column in draft.columns.items()),
    ]
    width = min(28, max(len(name) for name, _ in rows) + 2)
    lines = [f"{path} discloses this, and nothing else:"]
    lines += [_row(name, words, width) for name, words in rows]
    lines.append(f"How: {_how(draft, missing_hidden)}")
    if drafted.left_out:
        lines.append("Left out of the file, so that it stays here:")
        for name, levels in drafted.left_out.items():
            shown = [f"{v!r} ({count})" for v, count in levels.items()][:_MOST_NAMED]
            more = len(levels) - len(shown)
            rest = f" and {more} more" if more else ""
            lines.append(_row(name, ", ".join(shown) + rest, width))
    for name in drafted.perhaps_identifiers:
        lines.append(
            f"Column {name!r} has a different whole number in each row: if it is an "
            f"identifier, draft again with --drop_columns={name}."
        )
    lines.append(
        f"Read {path} too, and give it to other sites only if all of this may leave."
    )
    # Lines with a path are not wrapped.
    return "\n".join(line if path in line else _wrapped(line) for line in lines) + "\n"


def _row(name: str, words: str, width: int) -> str:
    gap = " " * max(1, width - len(name))
    return f"  {name}{gap}{words}"


def _wrapped(line: str) -> str:
    indent = len(line) - len(line.lstrip())
    return textwrap.fill(
        line,
        _WIDTH,
        subsequent_indent=" " * (indent + 4 if indent else 0),
        break_on_hyphens=False,
        break_long_words=False,
        drop_whitespace=True,
        replace_whitespace=False,
    )


def _listed(what: str, names: Sequence[str]) -> str:
    if not names:
        return f"no {what} named"
    plural = {"class": "classes", "level": "levels"}[what]
    return f"the {what if len(names) == 1 else plural} {', '.join(map(repr, names))}"


def _written(notation: Optional[Mapping[str, Any]]) -> str:
    if notation is None:
        return ""
    return f"; written as {json.dumps(dict(notation), ensure_ascii=False)}"


def _column(column: ColumnDraft) -> str:
    some = "; cells may be missing" if column.missing else "; no cell is missing"
    if not isinstance(column, EmptyDraft):
        some += _written(column.notation)
    if isinstance(column, CategoryDraft):
        return f"categories: {_listed('level', column.categories)}{some}"
    if isinstance(column, NumberDraft):
        return f"numbers: {_scale(column)}{some}"
    return "a column without any value"


def _scale(column: NumberDraft) -> str:
    if column.mean is not None:
        return (
            f"mean {column.mean:g} and deviation {column.deviation:g} of "
            f"{column.count:g} values"
        )
    if column.minimum is not None:
        return f"range {column.minimum:g} to {column.maximum:g}"
    return "no scale"


def _how(draft: Draft, missing_hidden: bool) -> str:
    count, digits = draft.minimum_count, draft.scale_digits
    parts = [
        f"each level, class and end of a range rests on at least {count} rows "
        f"(--minimum_count={count})"
        if count > 1
        else "a level, a class or an end of a range may rest on a single row "
        "(--minimum_count=1)",
        f"scales are rounded to {digits} {'digit' if digits == 1 else 'digits'} of "
        f"their size (--scale_digits={digits})"
        if digits
        else "scales are exact (--scale_digits=0)",
    ]
    if not missing_hidden:
        parts.append(
            "whether a cell is missing may rest on a single row (--missing=possible "
            "hides it)"
        )
    return "; ".join(parts) + "."
