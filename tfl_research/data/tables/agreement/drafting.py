"""Drafts a schema of one site's own files, and says what the draft leaves out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
import pandas as pd

from tfl_research.data.tables import derived_schema, labels
from tfl_research.data.tables.agreement import rounding
from tfl_research.data.tables.agreement.draft import (
    MEAN,
    NONE,
    RANGE,
    SCALES,
    CategoryDraft,
    ColumnDraft,
    Draft,
    EmptyDraft,
    NumberDraft,
)
from tfl_research.data.tables.cells import finite_numbers, numbers, plain, text_of
from tfl_research.data.tables.comparison import columns
from tfl_research.data.tables.comparison.finding import Finding, refuse_first
from tfl_research.data.tables.files import Silo
from tfl_research.data.tables.label import CLASSES, Label
from tfl_research.data.tables.notation import Notation

FOUND, POSSIBLE = "found", "possible"
MISSING = (FOUND, POSSIBLE)
_MOST_CATEGORIES = 100
# If a column of text has more rows than this and all texts differ, the texts are not
# categories.
_FEW_ROWS = 20


@dataclasses.dataclass(frozen=True)
class Choices:
    """The choices of a site for its draft.

    Attributes:
      minimum_count: levels and classes with fewer rows are left out, and at least this
        many values reach each end of a range.
      scales: "range" publishes a column's range; "mean" publishes mean, deviation and
        count; "none" publishes no scale.
      scale_digits: scales are rounded to this many digits of their size; 0 is exact.
      missing: "found" publishes whether a cell of a column is missing, "possible" says
        of all columns that cells may be missing.
      categories: columns of numbers that are codes of categories.
      dropped: columns that are no features.
      notations: how the cells of columns are written, the label's among them; the
        others are written plainly.

    Raises:
      ValueError: a value is out of range.
    """

    minimum_count: int = 5
    scales: str = RANGE
    scale_digits: int = 1
    missing: str = FOUND
    categories: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    notations: Mapping[str, Notation] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.minimum_count < 1:
            raise ValueError(
                f"--minimum_count={self.minimum_count}: must be at least 1; with 1, "
                "no level is left out"
            )
        if self.scale_digits < 0:
            raise ValueError(
                f"--scale_digits={self.scale_digits}: must be at least 0; with 0, "
                "nothing is rounded"
            )
        for name, value, words in (
            ("scales", self.scales, SCALES),
            ("missing", self.missing, MISSING),
        ):
            if value not in words:
                raise ValueError(f"--{name}={value}: must be {' or '.join(words)}")


@dataclasses.dataclass(frozen=True)
class Drafted:
    """A draft, and the facts that stay at the site.

    Attributes:
      draft: the draft, which the site may publish.
      left_out: levels and classes that the draft does not have, by column, with their
        numbers of rows.
      perhaps_identifiers: columns in which many rows all have different whole numbers.
    """

    draft: Draft
    left_out: Mapping[str, Mapping[str, int]]
    perhaps_identifiers: tuple[str, ...] = ()


def make(
    site: str, silos: Sequence[Silo], label_column: str, choices: Choices
) -> Drafted:
    """Drafts the schema of a site's files.

    Args:
      site: the site's name.
      silos: the site's files.
      label_column: the column of the label.
      choices: the site's choices.

    Raises:
      ValueError: a file, column or cell does not fit the site's others; a column looks
        like an identifier; or the choices name an unknown column.
    """
    names = _feature_columns(silos, label_column, choices)
    left_out: dict[str, Mapping[str, int]] = {}
    notation = choices.notations.get(label_column)
    if notation is None:
        _refuse_ambiguous(label_column, columns.label(silos, [label_column], CLASSES))
    declared = None if notation is None else Label(notation=notation)
    counts = labels.counts(silos, label_column, declared)
    classes, rare = _split(counts, choices.minimum_count)
    if rare:
        left_out[label_column] = rare
    drafted: dict[str, ColumnDraft] = {}
    for name in names:
        drafted[name], rare = _column(silos, name, choices)
        if rare:
            left_out[name] = rare
    draft = Draft(
        site,
        label_column,
        classes,
        drafted,
        choices.minimum_count,
        choices.scale_digits,
        None if notation is None else notation.content(),
    )
    suspects = tuple(
        name
        for name, column in drafted.items()
        if name not in choices.notations
        and isinstance(column, NumberDraft)
        and _all_differ(silos, name)
    )
    return Drafted(draft, left_out, suspects)


def _refuse_ambiguous(name: str, found: list[Finding]) -> None:
    """Raises ValueError for a column that can be read in several ways."""
    try:
        refuse_first(found)
    except ValueError as error:
        raise ValueError(
            f"{error}; a draft takes such a declaration as --notation={name}=JSON"
        ) from None


def _all_differ(silos: Sequence[Silo], name: str) -> bool:
    values = numbers(pd.concat([plain(silo.frame[name]) for silo in silos]))
    whole = bool((values % 1 == 0).all())
    return whole and len(values) > _FEW_ROWS and values.nunique() == len(values)


def _feature_columns(
    silos: Sequence[Silo], label_column: str, choices: Choices
) -> list[str]:
    first = silos[0]
    present = list(first.frame.columns)
    if label_column not in present:
        raise ValueError(
            f"--label_column={label_column}: {first.path} has no such column; it has "
            f"{', '.join(present)}"
        )
    for silo in silos[1:]:
        differing = sorted(set(silo.frame.columns) ^ set(present))
        differing = [name for name in differing if name not in choices.dropped]
        if differing:
            raise ValueError(
                f"{silo.path}: only one of this file and {first.path.name} has the "
                f"column {differing[0]!r}; make the files agree, or give "
                f"--drop_columns={differing[0]}"
            )
    known = {name for silo in silos for name in silo.frame.columns}
    for option, given in (
        ("drop_columns", choices.dropped),
        ("categories", choices.categories),
        ("notation", choices.notations),
    ):
        for name in given:
            is_label = name == label_column and option != "notation"
            if name not in known or is_label:
                raise ValueError(
                    f"--{option}={name}: the files have no such feature column"
                )
    names = [n for n in present if n != label_column and n not in choices.dropped]
    if not names:
        raise ValueError(
            f"{first.path}: has no feature column besides the label; expected at least "
            "one"
        )
    return names


def _split(
    counts: Mapping[str, int], minimum: int
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Returns levels with at least `minimum` rows, and the other levels with counts."""
    kept = tuple(level for level, count in counts.items() if count >= minimum)
    return kept, {k: count for k, count in counts.items() if count < minimum}


def _column(
    silos: Sequence[Silo], name: str, choices: Choices
) -> tuple[ColumnDraft, dict[str, int]]:
    notation = choices.notations.get(name)
    if notation is not None:
        cells = [notation.read(name, silo.frame[name], silo.at) for silo in silos]
        if all(each.isna().all() for each in cells):
            return EmptyDraft(), {}
        return _drafted(name, silos, cells, notation.is_numeric, choices)
    numeric = False
    if name not in choices.categories:
        _refuse_ambiguous(name, columns.features(silos, [name]))
        found = derived_schema.is_numeric(silos, name)
        if found is None:
            return EmptyDraft(), {}
        numeric = found
    cells = [plain(silo.frame[name]) for silo in silos]
    return _drafted(name, silos, cells, numeric, choices)


def _drafted(
    name: str,
    silos: Sequence[Silo],
    cells: Sequence[pd.Series],
    numeric: bool,
    choices: Choices,
) -> tuple[ColumnDraft, dict[str, int]]:
    """Drafts a column whose cells were read; returns also the levels left out."""
    notation = choices.notations.get(name)
    missing = choices.missing == POSSIBLE or any(bool(c.isna().any()) for c in cells)
    if not numeric:
        draft, rare = _categories(silos[0], name, cells, missing, choices)
        return dataclasses.replace(draft, notation=_content(notation)), rare
    values = np.concatenate(
        [finite_numbers(name, each, silo.at) for silo, each in zip(silos, cells)]
    )
    drafted = _number(np.sort(values[~np.isnan(values)]), missing, choices)
    return dataclasses.replace(drafted, notation=_content(notation)), {}


def _content(notation: Optional[Notation]) -> Optional[dict[str, Any]]:
    return None if notation is None else notation.content()


def _categories(
    first: Silo,
    name: str,
    cells: Sequence[pd.Series],
    missing: bool,
    choices: Choices,
) -> tuple[CategoryDraft, dict[str, int]]:
    texts = pd.concat(cells).dropna().map(text_of)
    counts = texts.value_counts()
    identifiers = len(counts) > _FEW_ROWS and len(counts) == len(texts)
    if identifiers or len(counts) > _MOST_CATEGORIES:
        raise ValueError(
            f"column {name!r} has {len(counts)} levels in {len(texts)} rows; at most "
            f"{_MOST_CATEGORIES} levels are encoded, and identifiers must not leave "
            f"the site; give --drop_columns={name}"
        )
    by_level = {str(level): int(counts[level]) for level in sorted(counts.index)}
    kept, rare = _split(by_level, choices.minimum_count)
    return CategoryDraft(missing, kept), rare


def _number(values: np.ndarray, missing: bool, choices: Choices) -> NumberDraft:
    """The column of sorted values, with its scale."""
    digits, count = choices.scale_digits, choices.minimum_count
    if choices.scales == NONE or len(values) < count:
        return NumberDraft(missing)
    if choices.scales == MEAN:
        mean, deviation = float(values.mean()), float(values.std())
        return NumberDraft(
            missing,
            mean=rounding.nearest(mean, deviation or abs(mean), digits),
            deviation=rounding.nearest(deviation, deviation, digits),
            count=rounding.nearest(len(values), len(values), digits),
        )
    ends = _ends(values, count)
    if ends is None:
        return NumberDraft(missing)
    low, high = rounding.outward(*ends, digits=digits)
    return NumberDraft(missing, minimum=low, maximum=high)


def _ends(values: np.ndarray, count: int) -> Optional[tuple[float, float]]:
    """The range without the `count - 1` least and greatest values; None if empty."""
    low, high = float(values[count - 1]), float(values[-count])
    return (low, high) if low <= high else None
