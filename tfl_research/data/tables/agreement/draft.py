"""A draft: the facts that a site publishes about its columns, and the draft's file."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar, Optional, Union

from tfl_research.data.tables import schema_entries
from tfl_research.errors import quoted

FORMAT = 1
RANGE, MEAN, NONE = "range", "mean", "none"
SCALES = (RANGE, MEAN, NONE)


@dataclasses.dataclass(frozen=True)
class NumberDraft:
    """A column of numbers; its range, its mean or no scale is published.

    Attributes:
      missing: whether cells may be missing.
      minimum, maximum: the range, or None.
      mean, deviation, count: the mean, deviation and count of the values, all three
        or None.
      notation: how the site's cells are written, as in a schema file; None for plainly.
    """

    missing: bool
    minimum: Optional[float] = None
    maximum: Optional[float] = None
    mean: Optional[float] = None
    deviation: Optional[float] = None
    count: Optional[float] = None
    notation: Optional[Mapping[str, Any]] = None

    KIND: ClassVar[str] = "number"

    @property
    def scale(self) -> str:
        """The published scale: "range", "mean" or "none"."""
        if self.mean is not None:
            return MEAN
        return NONE if self.minimum is None else RANGE


@dataclasses.dataclass(frozen=True)
class CategoryDraft:
    """A column of categories.

    Attributes:
      missing: whether cells may be missing.
      categories: the levels that are published, sorted.
      notation: how the site's cells are written, as in a schema file; None for plainly.
    """

    missing: bool
    categories: tuple[str, ...] = ()
    notation: Optional[Mapping[str, Any]] = None

    KIND: ClassVar[str] = "category"


@dataclasses.dataclass(frozen=True)
class EmptyDraft:
    """A column without any value; other sites decide its kind."""

    missing: bool = True

    KIND: ClassVar[str] = "empty"


ColumnDraft = Union[NumberDraft, CategoryDraft, EmptyDraft]
_KINDS: Mapping[str, Any] = {
    NumberDraft.KIND: NumberDraft,
    CategoryDraft.KIND: CategoryDraft,
    EmptyDraft.KIND: EmptyDraft,
}


@dataclasses.dataclass(frozen=True)
class Draft:
    """A site's draft.

    Attributes:
      site: the site's name.
      label_column: the column of the label.
      classes: names of the label's classes that are published.
      columns: every feature column, in the order of the site's file.
      minimum_count: levels, classes and ends of ranges were left out if fewer rows have
        them; 1 leaves nothing out.
      scale_digits: how coarse the scales are; 0 is exact.
      label_notation: how the label's cells are written; None for plainly.
    """

    site: str
    label_column: str
    classes: tuple[str, ...]
    columns: Mapping[str, ColumnDraft]
    minimum_count: int
    scale_digits: int
    label_notation: Optional[Mapping[str, Any]] = None

    def content(self) -> dict[str, Any]:
        """Returns the content of the draft's file."""
        label: dict[str, Any] = {
            "column": self.label_column,
            "classes": list(self.classes),
        }
        if self.label_notation is not None:
            label["notation"] = dict(self.label_notation)
        return {
            "draft": FORMAT,
            "site": self.site,
            "minimum_count": self.minimum_count,
            "scale_digits": self.scale_digits,
            "label": label,
            "columns": {
                name: {"kind": column.KIND, **_given(column)}
                for name, column in self.columns.items()
            },
        }


def as_json(content: Any) -> str:
    """Returns the text of a draft's or a schema's file."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _given(column: ColumnDraft) -> dict[str, Any]:
    entries = dataclasses.asdict(column)
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in entries.items()
        if value is not None
    }


def read(path: pathlib.Path) -> Draft:
    """Reads a draft's file.

    Raises:
      ValueError: the file does not exist or is not a draft; the message names the file
        and the entry.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: line {error.lineno}: {error.msg}") from None
    if not isinstance(content, dict) or content.get("draft") != FORMAT:
        raise ValueError(
            f"{path}: is not a draft of format {FORMAT}; write drafts with "
            "scripts/federation schema draft"
        )
    site, label = content.get("site"), content.get("label")
    columns = content.get("columns")
    if not isinstance(site, str) or not site:
        raise ValueError(f"{path}: site must be a name, got {quoted(site)}")
    if not isinstance(label, dict) or not isinstance(label.get("column"), str):
        raise ValueError(
            f"{path}: label must be an object with the name of a column, got {label!r}"
        )
    if not isinstance(columns, dict) or not columns:
        raise ValueError(
            f"{path}: columns must be an object with at least one column, got "
            f"{quoted(columns)}"
        )
    return Draft(
        site,
        label["column"],
        _texts(f"{path}: label classes", label.get("classes")),
        {n: _column(f"{path}: column {n!r}", entry) for n, entry in columns.items()},
        _whole(f"{path}: minimum_count", content.get("minimum_count")),
        _whole(f"{path}: scale_digits", content.get("scale_digits")),
        _notation(f"{path}: label", label.get("notation")),
    )


def _texts(where: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ValueError(f"{where}: must be a list of texts, got {quoted(value)}")
    if len(set(value)) < len(value):
        raise ValueError(f"{where}: must be distinct, got {quoted(value)}")
    return tuple(value)


def _notation(where: str, value: Any) -> Optional[dict[str, Any]]:
    """A checked notation, as in a schema file; None for none."""
    if value is None:
        return None
    return schema_entries.notation_of(f"{where}: notation", value).content()


def _whole(where: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{where}: must be a whole number, got {quoted(value)}")
    return value


def _column(where: str, entry: Any) -> ColumnDraft:
    kind = _KINDS.get(str(entry.get("kind"))) if isinstance(entry, dict) else None
    if kind is None:
        raise ValueError(f"{where}: kind must be one of {', '.join(_KINDS)}")
    values = {name: value for name, value in entry.items() if name != "kind"}
    names = {field.name for field in dataclasses.fields(kind)}
    unknown = sorted(set(values) - names)
    if unknown:
        raise ValueError(
            f"{where}: unknown entry {unknown[0]!r}; expected kind and "
            f"{', '.join(sorted(names))}"
        )
    if not isinstance(values.get("missing"), bool):
        raise ValueError(
            f"{where}: missing must be true or false, got {values.get('missing')!r}"
        )
    if kind is CategoryDraft:
        values["categories"] = _texts(where, values.get("categories"))
    if kind is NumberDraft:
        _check_scale(where, values)
    if "notation" in values:
        values["notation"] = _notation(where, values["notation"])
    column: ColumnDraft = kind(**values)
    return column


def _check_scale(where: str, values: Mapping[str, Any]) -> None:
    others = ("missing", "notation")
    numbers = {name: value for name, value in values.items() if name not in others}
    for name, value in numbers.items():
        ok = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not ok or not math.isfinite(value):
            raise ValueError(f"{where}: {name} must be a number, got {quoted(value)}")
    expected = [{"minimum", "maximum"}, {"mean", "deviation", "count"}, set()]
    if set(numbers) not in expected:
        raise ValueError(
            f"{where}: expected minimum and maximum, or mean, deviation and count, or "
            f"none of them; got {', '.join(sorted(numbers))}"
        )
    if "minimum" in numbers and numbers["minimum"] > numbers["maximum"]:
        raise ValueError(
            f"{where}: the minimum, {numbers['minimum']}, is above the maximum, "
            f"{numbers['maximum']}; draft again"
        )
    if "mean" in numbers and (numbers["deviation"] < 0 or numbers["count"] <= 0):
        raise ValueError(
            f"{where}: deviation must be at least 0 and count above 0, got "
            f"{numbers['deviation']} and {numbers['count']}"
        )
