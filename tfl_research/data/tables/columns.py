"""Columns of a table and how each becomes float32 features.

A column is declared with its kind, its scale or its categories, and whether values
may be missing. Declared constants are public. A mean, a range or a list of categories
that is taken from clients' data is a release of its own, outside of any ε.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Optional

import numpy as np
import pandas as pd

from tfl_research.data.arrays.listed import listed
from tfl_research.data.tables.cells import (
    CellNamer,
    finite_numbers,
    refuse,
    refuse_missing,
    refuse_rounded,
    row_and_column,
    shown,
    text_of,
)
from tfl_research.data.tables.column import Column
from tfl_research.data.tables.notation import Notation

_MOST_CATEGORIES_SHOWN = 20
# Ways to encode a category that is not on a column's list.
UNKNOWN = ("refuse", "other", "zeros")
# Ways to encode a number outside of a column's range.
OUTSIDE = ("clip", "refuse")


def _scaled(
    column: str,
    values: np.ndarray,
    missing: np.ndarray,
    center: float,
    scale: float,
    may_be_missing: bool,
    at: CellNamer,
) -> np.ndarray:
    """`(value - center) / scale`, 0 where missing, and perhaps an indicator."""
    if not may_be_missing:
        refuse_missing(column, missing, at)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.where(missing, 0.0, (values - center) / scale)
        single = scaled.astype(np.float32)
    if not np.isfinite(single).all():
        row = int(np.argmax(~np.isfinite(single)))
        raise ValueError(
            f"{at(row, column)}: {values[row]:g} is so far from {center:g}, in units "
            f"of {scale:g}, that float32 cannot hold it; correct the cell or the scale"
        )
    parts = [single, missing] if may_be_missing else [single]
    return np.stack(parts, axis=1).astype(np.float32)


def _with_indicator(column: str, may_be_missing: bool) -> tuple[str, ...]:
    return (column, f"{column} is missing") if may_be_missing else (column,)


@dataclasses.dataclass(frozen=True)
class Numeric(Column):
    """A number, scaled from a declared range to [-1, 1].

    Attributes:
      column: name of the table's column.
      low: value that becomes -1.
      high: value that becomes 1.
      logarithmic: scale log(1 + value) instead of the value; low is then above
        -1.
      may_be_missing: adds an indicator feature, 1 for a missing value, whose scaled
        value is 0, the middle of the range.
      missing_values: values that mean a missing value, such as 0 for a blood pressure.
      outside: for a number outside of the range, "clip" moves it to the nearer end,
        and "refuse" raises an error.
      notation: see `Column`.

    Raises:
      ValueError: the range is empty or its width overflows float64, no logarithm
        exists, or `outside` is another word.
    """

    column: str
    low: float
    high: float
    logarithmic: bool = False
    may_be_missing: bool = False
    missing_values: tuple[float, ...] = ()
    outside: str = "clip"
    notation: Optional[Notation] = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(
                f"{self.column}: low must be below high, got {self.low}, {self.high}"
            )
        width = float(self.high) - float(self.low)
        if not (math.isfinite(width) and math.isfinite(float(self.low + self.high))):
            raise ValueError(
                f"{self.column}: the range from {self.low:g} to {self.high:g} is wider "
                "than float64 holds"
            )
        if self.logarithmic and self.low <= -1:
            raise ValueError(
                f"{self.column}: log(1 + low) needs a low above -1, got {self.low}"
            )
        if self.outside not in OUTSIDE:
            raise ValueError(
                f"{self.column}: outside must be {' or '.join(OUTSIDE)}, got "
                f"{self.outside!r}"
            )

    def names(self) -> tuple[str, ...]:
        return _with_indicator(self.column, self.may_be_missing)

    def encode(self, cells: pd.Series, at: CellNamer = row_and_column) -> np.ndarray:
        values = finite_numbers(self.column, self.read(cells, at), at)
        missing = np.isnan(values) | np.isin(values, self.missing_values)
        low, high = float(self.low), float(self.high)
        values = np.where(missing, low, values)
        if self.outside == "refuse":
            wrong = (values < low) | (values > high)
            if wrong.any():
                problem = f"is outside the declared range, {low:g} to {high:g}"
                refuse(self.column, cells, wrong, problem, at)
        values = np.clip(values, low, high)
        if self.logarithmic:
            values = np.log1p(values)
            low, high = float(np.log1p(low)), float(np.log1p(high))
        center, scale = (low + high) / 2, (high - low) / 2
        return _scaled(
            self.column, values, missing, center, scale, self.may_be_missing, at
        )


@dataclasses.dataclass(frozen=True)
class Standardised(Column):
    """A number minus a mean, divided by a standard deviation.

    Attributes:
      column: name of the table's column.
      mean: value that becomes 0, like a missing value.
      deviation: the unit of the feature, above 0.
      may_be_missing: adds an indicator feature, 1 where the value is missing.
      notation: see `Column`.

    Raises:
      ValueError: the deviation is not above 0.
    """

    column: str
    mean: float
    deviation: float
    may_be_missing: bool = False
    notation: Optional[Notation] = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.deviation > 0:
            raise ValueError(
                f"{self.column}: the deviation must be above 0, got {self.deviation}"
            )

    def names(self) -> tuple[str, ...]:
        return _with_indicator(self.column, self.may_be_missing)

    def encode(self, cells: pd.Series, at: CellNamer = row_and_column) -> np.ndarray:
        values = finite_numbers(self.column, self.read(cells, at), at)
        return _scaled(
            self.column,
            values,
            np.isnan(values),
            self.mean,
            self.deviation,
            self.may_be_missing,
            at,
        )


@dataclasses.dataclass(frozen=True)
class Categorical(Column):
    """A column of categories from a list, encoded one-hot.

    Attributes:
      column: name of the table's column.
      categories: the categories, which are compared as text; 3 and 3.0 are "3".
      unknown: for a value that is not on the list, "refuse" raises an error, "other"
        sets a further feature for all such values, and "zeros" sets no feature.
      may_be_missing: adds an indicator feature, 1 where the value is missing;
        all categories are then 0.
      notation: see `Column`.

    Raises:
      ValueError: a category occurs twice, the categories are a set, there are no
        categories (which only "zeros" allows), or `unknown` is another word.
    """

    column: str
    categories: tuple[str, ...]
    unknown: str = "refuse"
    may_be_missing: bool = False
    notation: Optional[Notation] = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.unknown not in UNKNOWN:
            raise ValueError(
                f"{self.column}: unknown must be one of {', '.join(UNKNOWN)}, got "
                f"{self.unknown!r}"
            )
        categories = listed(f"{self.column}: categories", self.categories)
        if any(pd.isna(category) for category in categories):
            raise ValueError(
                f"{self.column}: a category has no value; leave it out of the "
                "categories, and give may_be_missing=True"
            )
        object.__setattr__(self, "categories", tuple(map(text_of, categories)))
        none = not self.categories and self.unknown != "zeros"
        if none or len(set(self.categories)) < len(self.categories):
            raise ValueError(
                f"{self.column}: expected distinct categories, got {self.categories}"
            )

    @property
    def is_numeric(self) -> bool:
        return False

    def names(self) -> tuple[str, ...]:
        extra = ("is other",) if self.unknown == "other" else ()
        extra += ("is missing",) if self.may_be_missing else ()
        return tuple(f"{self.column}={c}" for c in self.categories) + tuple(
            f"{self.column} {suffix}" for suffix in extra
        )

    def encode(self, cells: pd.Series, at: CellNamer = row_and_column) -> np.ndarray:
        cells = self.read(cells, at)
        missing = cells.isna().to_numpy()
        if not self.may_be_missing:
            refuse_missing(self.column, missing, at)
        refuse_rounded(self.column, cells, at)
        # Each distinct text is compared once; -1 is a missing value. Values are made
        # text before, since True and 1 are the same to pandas.
        texts = [None if no else text_of(c) for c, no in zip(cells, missing)]
        codes, distinct = pd.factorize(pd.Series(texts, dtype=object))
        listed_texts = [*distinct, None]
        listed_at = pd.Index(self.categories, dtype=object).get_indexer(listed_texts)
        position = listed_at[codes]
        unknown = (position < 0) & ~missing
        if self.unknown == "refuse" and unknown.any():
            refuse(self.column, cells, unknown, self._not_listed(), at)
        listed = ~unknown & ~missing
        features = np.zeros((len(cells), len(self.names())), np.float32)
        features[np.flatnonzero(listed), position[listed]] = 1.0
        if self.unknown == "other":
            features[unknown, len(self.categories)] = 1.0
        if self.may_be_missing:
            features[missing, -1] = 1.0
        return features

    def _not_listed(self) -> str:
        text = f"is not one of the {len(self.categories)} declared categories"
        if len(self.categories) <= _MOST_CATEGORIES_SHOWN:
            text += f": {', '.join(map(shown, self.categories))}"
        return text


@dataclasses.dataclass(frozen=True)
class Binned(Column):
    """A number, encoded one-hot by the declared interval that holds the number.

    Use this for quantities whose effect is not monotone. The intervals are (-inf, e0],
    (e0, e1], ..., (ek, inf).

    Attributes:
      column: name of the table's column; no value may be missing.
      edges: ascending upper ends of all intervals but the last.
      notation: see `Column`.

    Raises:
      ValueError: there are no edges, or the edges do not ascend.
    """

    column: str
    edges: tuple[float, ...]
    notation: Optional[Notation] = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "edges", listed(f"{self.column}: edges", self.edges))
        if not self.edges or not all(a < b for a, b in zip(self.edges, self.edges[1:])):
            raise ValueError(
                f"{self.column}: expected ascending edges, got {self.edges}"
            )

    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.column}<={edge:g}" for edge in self.edges) + (
            f"{self.column}>{self.edges[-1]:g}",
        )

    def encode(self, cells: pd.Series, at: CellNamer = row_and_column) -> np.ndarray:
        values = finite_numbers(self.column, self.read(cells, at), at)
        refuse_missing(self.column, np.isnan(values), at)
        interval = np.searchsorted(self.edges, values, side="left")
        return np.eye(len(self.edges) + 1, dtype=np.float32)[interval]
