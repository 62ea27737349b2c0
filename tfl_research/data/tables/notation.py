"""How the cells of a column are written, as a schema declares it, and what they mean.

Values have pyarrow's types, and pyarrow's safe casts make them: a cast that would
round, overflow or cut a value off is an error. pandas' readers guess; pandera checks a
table after a reader has converted it; Frictionless brings some twenty packages, and its
errors count rows where ours name the lines of a file.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import re
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np
import pandas as pd

from tfl_research.data.tables import written
from tfl_research.data.tables.cells import (
    CellNamer,
    refuse,
    row_and_column,
    text_of,
)
from tfl_research.errors import quoted

NUMBER, INTEGER, TEXT, BOOLEAN, DATE = "number", "integer", "text", "boolean", "date"
TYPES = (NUMBER, INTEGER, TEXT, BOOLEAN, DATE)
_NUMERIC = (NUMBER, INTEGER, DATE)
DECIMAL_SIGNS = (".", ",")
# Thousands signs; a space stands for all kinds of spaces.
THOUSANDS_SIGNS = ("", ",", ".", "'", " ", "_")
_SPACES = re.compile("[ \u00a0\u2007\u2009\u202f]")
_EPOCH = datetime.datetime(1970, 1, 1)
# Two parts of a date without a sign between them.
_ADJOINING = re.compile(r"%[A-Za-z]%[A-Za-z]")
# The date that `strptime` gives to a time without a date.
_NO_YEAR = datetime.datetime(1900, 1, 1)
# The texts of truth values, in the order of their numbers.
TRUTH = ("false", "true")


@dataclasses.dataclass(frozen=True)
class Notation:
    """How a column's cells are written.

    Space around a cell is ignored.

    Attributes:
      type: "number" (float64), "integer" (int64), "text" (as it is written, such as
        007), "boolean" ("true" and "false" in any case) or "date" (days since
        1970-01-01, or of a time without a date, the part of a day).
      decimal: the decimal sign of numbers, "." or ",".
      thousands: the sign between groups of three digits: ",", ".", "'", "_" or " ";
        none when empty.
      unit: a text that may stand before or behind a number, such as "%", "kg" or "€".
        It changes no value: 5% is 5.
      missing_values: the cells that mean "no value", exactly as written; None takes the
        usual words (`written.MISSING`).
      date_format: the format of dates, in the words of `datetime.strptime`: "%d.%m.%Y".
      spellings: the meaning of each other spelling: {"TRUE": "True"}.
      levels: texts that are values although they look like words for "no value".

    Raises:
      ValueError: the type or a sign is unknown, or signs do not go together.

    Example:
      >>> import pandas as pd
      >>> from tfl_research.data.tables.notation import Notation
      >>> prices = Notation("number", decimal=",", thousands=".", unit="€")
      >>> prices.read("price", pd.Series(["1.234,50 €", "7", "NA"])).tolist()
      [1234.5, 7.0, None]
    """

    type: str
    decimal: str = "."
    thousands: str = ""
    unit: str = ""
    missing_values: Optional[tuple[str, ...]] = None
    date_format: str = ""
    spellings: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    levels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise ValueError(
                f"type must be one of {', '.join(TYPES)}; got {self.type!r}"
            )
        for name, value, signs in (
            ("decimal", self.decimal, DECIMAL_SIGNS),
            ("thousands", self.thousands, THOUSANDS_SIGNS),
        ):
            if value not in signs:
                raise ValueError(
                    f"{name} must be one of {' '.join(map(repr, signs))}, got "
                    f"{quoted(value)}"
                )
        if self.decimal == self.thousands:
            raise ValueError(
                f"decimal and thousands must be different signs, got {self.decimal!r} "
                "for both"
            )
        numeric = self.type in (NUMBER, INTEGER)
        if not numeric and (self.decimal, self.thousands, self.unit) != (".", "", ""):
            raise ValueError(
                "decimal, thousands and unit go with numbers only; got the type "
                f"{self.type!r}"
            )
        if any(c.isdigit() or c in written.SIGNS for c in self.unit):
            raise ValueError(
                f"unit must be a text without digits and signs, got {self.unit!r}"
            )
        if (self.type == DATE) != bool(self.date_format):
            raise ValueError(
                "a date needs a format such as '%Y-%m-%d', and other types have no "
                f"format; got the type {self.type!r} and the format "
                f"{self.date_format!r}"
            )

    @property
    def is_numeric(self) -> bool:
        """Whether the values are numbers, days among them."""
        return self.type in _NUMERIC

    def content(self) -> dict[str, Any]:
        """The notation's entries of a schema file."""
        found: dict[str, Any] = {"type": self.type}
        for name, value in (
            ("decimal", "" if self.decimal == "." else self.decimal),
            ("thousands", self.thousands),
            ("unit", self.unit),
            ("format", self.date_format),
        ):
            if value:
                found[name] = value
        if self.missing_values is not None:
            found["missing_values"] = list(self.missing_values)
        if self.spellings:
            meant: dict[str, list[str]] = {}
            for spelling, name in self.spellings.items():
                meant.setdefault(name, []).append(spelling)
            found["spellings"] = meant
        return found

    def read(
        self, column: str, cells: pd.Series, at: CellNamer = row_and_column
    ) -> pd.Series:
        """Reads cells as float, int or str objects; None if a value is missing.

        Args:
          column: the column's name, for errors.
          cells: as in a file, text or numbers; None or NaN is missing.
          at: names a cell in an error.

        Raises:
          ValueError: a cell does not have the notation; the message names the cell.
        """
        codes, distinct = pd.factorize(_keys(cells))
        meant = []
        for place, (_, cell) in enumerate(distinct):
            try:
                meant.append(self._meaning(cell))
            except ValueError as error:
                refuse(column, cells, codes == place, str(error), at)
        values = [meant[code] for code in codes]
        return pd.Series(values, index=cells.index, dtype=object)

    def _meaning(self, cell: Any) -> Any:
        """The value of one cell; ValueError with what is wrong."""
        if cell is None:
            return None
        text = (cell if isinstance(cell, str) else text_of(cell)).strip()
        text = self.spellings.get(text, text)
        if self.missing_values is None:
            if text.lower() in written.MISSING and text not in self.levels:
                return None
        elif text in self.missing_values:
            return None
        if self.type == TEXT:
            if isinstance(cell, float) and abs(cell) > 2**53:
                raise ValueError("is a float that may stand for several integers")
            return text
        if self.type == BOOLEAN:
            if text.lower() not in TRUTH:
                raise ValueError(
                    "is neither true nor false; declare its meaning under spellings, "
                    'as {"true": ["yes"], "false": ["no"]}'
                )
            return text.lower()
        if self.type == DATE:
            return self._days(cell, text)
        return self._number(cell, text)

    def _days(self, cell: Any, text: str) -> float:
        if isinstance(cell, datetime.date):
            return _days_since(_EPOCH, cell)
        try:
            found = datetime.datetime.strptime(text, self.date_format)
            if _ADJOINING.search(self.date_format) and (
                found.strftime(self.date_format) != text
            ):
                # "2020111" could be two days.
                raise ValueError(text)
        except ValueError:
            raise ValueError(
                f"is not a date of the declared format {self.date_format!r}"
            ) from None
        has_year = "%Y" in self.date_format or "%y" in self.date_format
        return _days_since(_EPOCH if has_year else _NO_YEAR, found)

    def _number(self, cell: Any, text: str) -> Any:
        import pyarrow as pa

        is_integer = self.type == INTEGER
        target = pa.int64() if is_integer else pa.float64()
        if isinstance(cell, (bool, np.bool_, datetime.date)):
            raise ValueError(f"is not {_A[self.type]}, as the schema declares")
        plain = cell if not isinstance(cell, str) else self._plain(text)
        if isinstance(plain, str) and is_integer:
            # 2.0 is an integer; 2.5 is not.
            whole = written.whole(plain)
            if whole is None:
                raise ValueError("is not an integer, as the schema declares")
            plain = int(whole)
        elif isinstance(plain, str) and written.kind(plain) == written.INTEGER:
            # From an integer, the cast does not round.
            plain = int(plain)
        try:
            value = pa.scalar(plain).cast(target).as_py()
        except (pa.ArrowException, OverflowError, ValueError):
            raise ValueError(
                f"is not {_A[self.type]} that {target} holds exactly; declare the type "
                "text and categories if it is a code"
            ) from None
        if value == 0 and isinstance(plain, str) and written.value(plain) != 0:
            raise ValueError(
                "is too small for float64, which makes it 0; correct the cell"
            )
        if not math.isfinite(value):
            raise ValueError("is not finite; correct the cell")
        return value

    def _plain(self, text: str) -> str:
        """The number without unit and thousands signs, with a decimal point."""
        number = text
        if self.unit:
            for end in (number.removeprefix(self.unit), number.removesuffix(self.unit)):
                if end != number:
                    number = end.strip()
                    break
        sign = number[:1] if number[:1] in ("+", "-") else ""
        digits = number[len(sign) :]
        whole, decimal, rest = digits.partition(self.decimal)
        if self.thousands:
            whole = _SPACES.sub(" ", whole)
            groups = whole.split(self.thousands)
            if len(groups) > 1 and (
                not 1 <= len(groups[0]) <= 3 or any(len(g) != 3 for g in groups[1:])
            ):
                raise ValueError(self._wrong())
            whole = "".join(groups)
        if "." in whole + rest:
            # A thousands sign that was not declared, or a second decimal sign.
            raise ValueError(self._wrong())
        found = sign + whole + ("." if decimal else "") + rest
        if not written.NUMBER.fullmatch(found):
            raise ValueError(self._wrong())
        return found

    def _wrong(self) -> str:
        signs = f"decimal sign {self.decimal!r}"
        signs += f", thousands sign {self.thousands!r}" if self.thousands else ""
        signs += f", unit {self.unit!r}" if self.unit else ""
        return f"is not {_A[self.type]} as the schema declares ({signs})"


_A = {NUMBER: "a number", INTEGER: "an integer"}


def _days_since(start: datetime.datetime, day: datetime.date) -> float:
    """Days between, the time of day a fraction; in UTC if the text has a time zone."""
    if not isinstance(day, datetime.datetime):
        day = datetime.datetime(day.year, day.month, day.day)
    if day.tzinfo is not None:
        day = day.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    return (day - start) / datetime.timedelta(days=1)


def _keys(cells: pd.Series) -> pd.Series:
    """Cells with their types, since True, 1 and 1.0 are the same to pandas."""
    missing = cells.isna().to_numpy()
    return pd.Series(
        [
            ("", None) if no else (type(cell).__name__, cell)
            for cell, no in zip(cells, missing)
        ],
        index=cells.index,
        dtype=object,
    )
