"""Merges the drafts that sites published into the content of a schema.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfl_research.data.tables.agreement import merged_levels, merged_scales
from tfl_research.data.tables.agreement.decisions import ConflictError, Decisions
from tfl_research.data.tables.agreement.draft import (
    CategoryDraft,
    ColumnDraft,
    Draft,
    EmptyDraft,
    NumberDraft,
)
from tfl_research.data.tables.comparison import spellings
from tfl_research.data.tables.notation import BOOLEAN
from tfl_research.errors import quoted


def merge(drafts: Sequence[Draft], decisions: Decisions) -> dict[str, Any]:
    """Merges drafts and decisions into the content of the sites' schema.json.

    Levels and classes are the union of the drafts' levels and classes. A range reaches
    over all sites' ranges. A mean and deviation cover all sites' values together; each
    site published the count, mean and deviation of its own values. The result does not
    depend on the order of the drafts.

    Raises:
      ConflictError: sites disagree; the error has a line for each disagreement.
      ValueError: there is no draft, a site has two drafts, or a decision is about an
        unknown column.
    """
    if not drafts:
        raise ValueError("no draft is given; name the drafts that sites published")
    drafts = sorted(drafts, key=lambda draft: draft.site)
    sites = [draft.site for draft in drafts]
    for site in sites:
        if sites.count(site) > 1:
            raise ValueError(
                f"two drafts are of the site {quoted(site)}; give one draft of each "
                "site"
            )
    label_column = drafts[0].label_column
    order = dict.fromkeys(name for draft in drafts for name in draft.columns)
    decisions.check_columns(order, label_column)
    conflicts: list[str] = []
    for draft in drafts[1:]:
        if draft.label_column != label_column:
            conflicts.append(
                f"the label is column {label_column!r} at {sites[0]} and "
                f"{draft.label_column!r} at {draft.site}; rename the column at a site"
            )
        if draft.label_notation != drafts[0].label_notation:
            conflicts.append(_written(f"label {label_column!r}", draft.site, sites[0]))
    columns = {}
    for name in order:
        if name in decisions.dropped:
            continue
        try:
            columns[name] = _column(name, drafts, decisions)
        except ConflictError as error:
            conflicts += error.lines
    if not order.keys() - set(decisions.dropped):
        conflicts.append("--drop_columns leaves no feature column; keep at least one")
    try:
        classes = merged_levels.classes(label_column, drafts, decisions)
    except ConflictError as error:
        conflicts += error.lines
    if conflicts:
        raise ConflictError(*conflicts)
    notation = drafts[0].label_notation or {}
    return {"columns": columns, "label": {"classes": classes, **notation}}


def _written(what: str, site: str, first: str) -> str:
    return (
        f"the sites {first} and {site} write {what} in different ways; change the "
        "files of one site, and draft again with the same --notation"
    )


def _column(name: str, drafts: Sequence[Draft], decisions: Decisions) -> dict[str, Any]:
    without = [draft.site for draft in drafts if name not in draft.columns]
    if without:
        alike = sorted(
            other
            for draft in drafts
            for other in draft.columns
            if other != name and spellings.plain(other) == spellings.plain(name)
        )
        hint = f" ({alike[0]!r} is written differently)" if alike else ""
        raise ConflictError(
            f"column {name!r} is missing at {', '.join(without)}{hint}; add or "
            f"rename the column there and draft again, or give --drop_columns={name}"
        )
    by_site = {draft.site: draft.columns[name] for draft in drafts}
    given = {
        site: column.notation
        for site, column in by_site.items()
        if not isinstance(column, EmptyDraft)
    }
    first = next(iter(given), "")
    for site, notation in given.items():
        if notation != given[first]:
            raise ConflictError(_written(f"column {name!r}", site, first))
    entry = _entry(name, by_site, drafts, decisions)
    notation = given[first] if given else None
    if notation is not None:
        entry.update(notation)
        if notation["type"] == BOOLEAN:
            del entry["categories"], entry["unknown"]
    if not any(column.missing for column in by_site.values()):
        entry["missing"] = False
    return entry


def _entry(
    name: str,
    by_site: Mapping[str, ColumnDraft],
    drafts: Sequence[Draft],
    decisions: Decisions,
) -> dict[str, Any]:
    numbers = {s: c for s, c in by_site.items() if isinstance(c, NumberDraft)}
    categories = {s: c for s, c in by_site.items() if isinstance(c, CategoryDraft)}
    if numbers and categories:
        raise ConflictError(
            f"column {name!r} has numbers at {', '.join(numbers)} and categories at "
            f"{', '.join(categories)}; correct the cells at {', '.join(categories)}, "
            f"or draft again with --categories={name} at {', '.join(numbers)}, or "
            f"give --drop_columns={name}"
        )
    if numbers or name in decisions.ranges:
        if categories:
            raise ConflictError(
                f"--range={name}: the column has categories at "
                f"{', '.join(categories)}; leave --range out"
            )
        return merged_scales.numeric(name, numbers, drafts, decisions)
    if categories or name in decisions.levels:
        return merged_levels.categorical(name, categories, drafts, decisions)
    empty = [s for s, c in by_site.items() if isinstance(c, EmptyDraft)]
    raise ConflictError(
        f"column {name!r} has no value at {', '.join(empty)}; give "
        f"--drop_columns={name}"
    )
