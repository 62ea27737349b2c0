"""Schemas read from a schema.json: public constants about the columns of files."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any, Optional

from tfl_research.data.tables.cells import text_of
from tfl_research.data.tables.columns import (
    OUTSIDE,
    UNKNOWN,
    Categorical,
    Column,
    Numeric,
    Standardised,
)
from tfl_research.data.tables.schema import Schema

SCHEMA_FILE = "schema.json"


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def _names(value: Any) -> Optional[tuple[str, ...]]:
    """Distinct category or class names of a JSON list; None for any other value."""
    if not isinstance(value, list) or not value:
        return None
    if not all(isinstance(v, str) or _is_number(v) for v in value):
        return None
    texts = tuple(text_of(v) for v in value)
    return texts if len(set(texts)) == len(texts) else None


def _column(where: str, name: str, entry: Any) -> Column:
    where = f"{where}: column {name!r}"
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected an object, got {entry!r}")
    missing = entry.get("missing", True)
    if not isinstance(missing, bool):
        raise ValueError(f"{where}: missing is true or false, got {missing!r}")
    keys = set(entry) - {"missing"}
    if {"minimum", "maximum"} <= keys <= {"minimum", "maximum", "outside"}:
        low, high = entry["minimum"], entry["maximum"]
        if not (_is_number(low) and _is_number(high) and low < high):
            raise ValueError(
                f"{where}: minimum and maximum are numbers, the minimum below the "
                f"maximum; got {low!r} and {high!r}"
            )
        outside = _word(where, entry, "outside", OUTSIDE)
        return Numeric(
            name, float(low), float(high), may_be_missing=missing, outside=outside
        )
    if keys == {"mean", "deviation"}:
        mean, deviation = entry["mean"], entry["deviation"]
        if not (_is_number(mean) and _is_number(deviation) and deviation > 0):
            raise ValueError(
                f"{where}: mean and deviation are numbers, the deviation above 0; got "
                f"{mean!r} and {deviation!r}"
            )
        return Standardised(name, float(mean), float(deviation), may_be_missing=missing)
    if {"categories"} <= keys <= {"categories", "unknown"}:
        categories = _names(entry["categories"])
        if categories is None:
            raise ValueError(f"{where}: categories is a list of distinct names")
        unknown = _word(where, entry, "unknown", UNKNOWN)
        return Categorical(name, categories, unknown, may_be_missing=missing)
    raise ValueError(
        f"{where}: expected minimum and maximum (numeric, optionally outside), mean "
        "and deviation (numeric), or categories (optionally unknown), and optionally "
        "missing; got "
        f"{', '.join(sorted(entry)) or 'nothing'}"
    )


def _word(
    where: str, entry: Mapping[str, Any], key: str, words: tuple[str, ...]
) -> str:
    """One of the words, "refuse" where the entry has none."""
    word = entry.get(key, "refuse")
    if word not in words:
        raise ValueError(f"{where}: {key} is {' or '.join(words)}, got {word!r}")
    return str(word)


def draft(schema: Schema) -> dict[str, Any]:
    """The content of a schema.json for the columns and classes, with open ranges.

    Args:
      schema: as derived from files (`derived_schema.derive`).

    Returns:
      An object of the form that `read` takes, but for a minimum and maximum of None at
      numeric columns, which somebody has to fill in.
    """
    columns: dict[str, Any] = {
        column.column: {"categories": list(column.categories)}
        if isinstance(column, Categorical)
        else {"minimum": None, "maximum": None}
        for column in schema.columns
    }
    content: dict[str, Any] = {"columns": columns}
    if schema.classes is not None:
        content["label"] = {"classes": list(schema.classes)}
    return content


def read(folder: pathlib.Path, label_column: str) -> Optional[Schema]:
    """The schema in the folder's schema.json, or None where the file does not exist.

    See `read_file` for its form.

    Raises:
      ValueError: see `read_file`.
    """
    path = folder / SCHEMA_FILE
    return read_file(path, label_column) if path.exists() else None


def read_file(path: pathlib.Path, label_column: str) -> Schema:
    """The schema in a file.

    Its form: `{"columns": {name: {"minimum": a, "maximum": b}, {"mean": m, "deviation":
    s} or {"categories": [...]}, each with an optional "missing": false}, "label":
    {"classes": [...]}}`; "label" may be left out, but not for a private run. A range
    becomes [-1, 1]; of a number with mean and deviation, (number - m) / s is taken.
    Numbers outside of the range and categories that are not listed are refused when
    rows are encoded, which stops the run before it begins. `"outside": "clip"` beside a
    range moves such numbers to the nearer end instead, and `"unknown": "zeros"` or
    `"other"` beside categories encodes such a category as no category, or as a category
    of all unlisted ones: the value then changes the features of its own row alone.

    Raises:
      ValueError: no such file, not JSON, or another form; names the column.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: line {error.lineno}: {error.msg}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None
    return of_content(str(path), content, label_column)


def of_content(path: str, content: Any, label_column: str) -> Schema:
    """The schema of the content of a file; `path` is for errors. See `read_file`."""
    columns = content.get("columns") if isinstance(content, dict) else None
    if not isinstance(columns, dict) or not columns:
        raise ValueError(f"{path}: expected an object with 'columns'")
    unknown = set(content) - {"columns", "label"}
    if unknown:
        raise ValueError(f"{path}: unknown entry {sorted(unknown)[0]!r}")
    if label_column in columns:
        raise ValueError(
            f"{path}: the label column {label_column!r} belongs under 'label'"
        )
    schema = Schema(tuple(_column(path, n, entry) for n, entry in columns.items()))
    if "label" not in content:
        return schema
    label = content["label"]
    classes = _names(label.get("classes")) if isinstance(label, dict) else None
    if classes is None or len(classes) < 2 or set(label) != {"classes"}:
        raise ValueError(
            f"{path}: expected 'label' as {{'classes': [...]}} with two or more "
            "distinct names"
        )
    return Schema(schema.columns, classes)
