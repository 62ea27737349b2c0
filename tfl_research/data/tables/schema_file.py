"""Reads schemas from a schema.json: public constants about the columns of files."""

from __future__ import annotations

import json
import pathlib
from typing import Any, Optional

from tfl_research.data.tables import schema_entries
from tfl_research.data.tables.schema import Schema
from tfl_research.data.tables.written import MISSING

SCHEMA_FILE = "schema.json"


def read(folder: pathlib.Path, label_column: str) -> Optional[Schema]:
    """Reads the folder's schema.json; returns None if the file does not exist.

    See `read_file` for its form.

    Raises:
      ValueError: see `read_file`.
    """
    path = folder / SCHEMA_FILE
    return read_file(path, label_column) if path.exists() else None


def _content(path: pathlib.Path) -> Any:
    try:
        return json.loads(
            path.read_text(encoding="utf-8"), object_pairs_hook=_once_each
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: line {error.lineno}: {error.msg}") from None
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"the name {twice!r} occurs twice; leave one of the two entries out"
        )
    return found


def read_file(path: pathlib.Path, label_column: str) -> Schema:
    """Reads the schema in a file.

    The file has the form `{"columns": {name: {"minimum": a, "maximum": b}, {"mean": m,
    "deviation": s} or {"categories": [...]}, each with an optional "missing": false},
    "label": {"classes": [...]}}`. A private run needs "label"; other runs do not. A
    range is scaled to [-1, 1]; a number with mean and deviation becomes
    (number - m) / s.
    Numbers outside of the range and categories that are not listed are refused when
    rows are encoded, which stops the run before it begins. `"outside": "clip"` beside a
    range moves such numbers to the nearer end instead, and `"unknown": "zeros"` or
    `"other"` beside categories encodes such a category as no category, or as a category
    of all unlisted ones: the value then changes the features of its own row alone.

    Beside each, and beside "classes", the notation of the cells: "type", "decimal",
    "thousands", "unit", "missing_values", "format" and "spellings", see
    `notation.Notation`; "spellings" lists by each meaning what else is written:
    {"yes": ["Yes", "YES"]}. A "label" of the type "number" is predicted as a number,
    with an optional range; one with "columns" has several labels that are true or
    false. Words such as NA and none are values where categories or classes list them.

    Raises:
      ValueError: the file does not exist, is not JSON, or has another form; names the
        column.
    """
    return of_content(str(path), _content(path), label_column)


def of_content(path: str, content: Any, label_column: str) -> Schema:
    """Makes the schema of a file's content; `path` is for errors. See `read_file`."""
    columns = content.get("columns") if isinstance(content, dict) else None
    if not isinstance(columns, dict) or not columns:
        raise ValueError(f"{path}: expected an object with 'columns'")
    unknown = set(content) - {"columns", "label"}
    if unknown:
        raise ValueError(f"{path}: unknown entry {sorted(unknown)[0]!r}")
    if label_column in columns:
        raise ValueError(
            f"{path}: the label column {label_column!r} must stand under 'label', not "
            "under 'columns'"
        )
    try:
        schema = Schema(
            tuple(schema_entries.column(path, n, e) for n, e in columns.items())
        )
    except OverflowError as error:
        raise ValueError(f"{path}: {error}") from None
    if "label" not in content:
        return schema
    classes, declared = schema_entries.label(f"{path}: label", content["label"])
    return Schema(schema.columns, classes, declared)


def declares_words(path: pathlib.Path) -> bool:
    """Whether a file lists a word such as NA or none as a category or a class."""
    try:
        content = _content(path)
    except ValueError:
        return False
    if not isinstance(content, dict):
        return False
    columns = content.get("columns")
    entries = list(columns.values()) if isinstance(columns, dict) else []
    for entry in (*entries, content.get("label")):
        for key in ("categories", "classes"):
            listed = entry.get(key) if isinstance(entry, dict) else None
            if isinstance(listed, list) and any(
                isinstance(v, str) and v.strip().lower() in MISSING for v in listed
            ):
                return True
    return False
