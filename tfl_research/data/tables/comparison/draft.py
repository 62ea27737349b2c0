"""The content of a schema.json that would settle how a folder's files are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

from tfl_research.data.tables import label as label_kinds, labels
from tfl_research.data.tables.comparison import cells, choices
from tfl_research.data.tables.comparison.finding import REFUSED, Finding
from tfl_research.data.tables.comparison.table import Table
from tfl_research.data.tables.schema_entries import CHOICES

_MOST_CATEGORIES = 100


def content(table: Table, found: Sequence[Finding]) -> dict[str, Any]:
    """The draft of a schema.json.

    A column that can be read in several ways has "choices". Somebody has to replace the
    entry by one of the choices; a schema with choices is refused. Ranges are left open
    (None), and a schema with an open range is refused as well: numbers read off the
    files would tell what is in them.

    Args:
      table: files without a schema.json.
      found: the findings of the comparison of the files.

    Raises:
      ValueError: no declaration can settle a column, or there are too many categories.
    """
    refused = {f.column: f for f in reversed(found) if f.fate == REFUSED}
    columns = {
        name: _chosen(refused.get(name)) or _column(table, name) for name in table.names
    }
    drafted: dict[str, Any] = {"columns": columns}
    label = _label(table, refused)
    if label is not None:
        drafted["label"] = label
    return drafted


def _chosen(finding: Optional[Finding]) -> Optional[dict[str, Any]]:
    """The choices of a finding, or its only one; None without a finding."""
    if finding is None:
        return None
    if not finding.choices:
        raise ValueError(finding.line())
    return {CHOICES: [dict(choice.entry) for choice in finding.choices]}


def _column(table: Table, name: str) -> dict[str, Any]:
    column = cells.of_column(table.silos, name)
    if not column.cells:
        raise ValueError(
            f"column {name!r} has no value in any file; name it in drop_columns"
        )
    if column.cells[0].is_number:
        return dict(choices.OPEN_RANGE)
    levels = sorted({cell.text for cell in column.cells})
    if len(levels) > _MOST_CATEGORIES:
        raise ValueError(
            f"column {name!r} has {len(levels)} categories; at most "
            f"{_MOST_CATEGORIES} are encoded; if the column holds identifiers, name "
            "it in drop_columns"
        )
    return {"categories": levels}


def _label(table: Table, refused: dict[str, Finding]) -> Optional[dict[str, Any]]:
    names = table.label_columns
    if table.label_kind == label_kinds.MULTI_LABEL:
        usual = labels.TRUTH_VALUES.content()
        return {"columns": {n: _chosen(refused.get(n)) or usual for n in names}}
    if table.label_kind == label_kinds.A_NUMBER:
        return _chosen(refused.get(names[0])) or {"type": "number"}
    found = _chosen(refused.get(names[0]))
    return found or {"classes": list(labels.classes(table.silos, names[0], None))}
