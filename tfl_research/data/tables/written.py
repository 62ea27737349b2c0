"""How a cell of text is written: as a number, as a date, with signs, as a word.

Nothing is converted here. `kind` names what a person would take the text for, so that
a column whose cells can be read in several ways is refused and not guessed.
"""

from __future__ import annotations

import decimal
import re
from typing import Optional

# Cells that mean "no value" where no schema says otherwise, compared without case.
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
# Characters of the longest of them.
LONGEST = max(map(len, MISSING))

# Programs write this sign for a letter that they cannot read.
LOST = "\ufffd"

MISSING_WORD = "a word for no value"
INTEGER = "an integer"
PADDED = "an integer with leading zeros"
DECIMAL = "a number"
NOT_FINITE = "an infinite number"
GROUPED = "a number with signs between its digits"
PERCENT = "a percentage"
MONEY = "an amount of money"
QUANTITY = "a number with a unit"
DATE = "a date"
TIME = "a time"
ODD_NUMBER = "a number with unusual signs"
TRUTH = "a truth value"
TEXT = "text"

NUMBERS = frozenset({INTEGER, DECIMAL, NOT_FINITE})
# Kinds that can be read in several ways.
AMBIGUOUS = (PADDED, GROUPED, PERCENT, MONEY, DATE, TIME, ODD_NUMBER)

_EXPONENT = r"(?:[eE][+-]?\d+)?"
NUMBER = re.compile(rf"[+-]?(?:\d+\.?\d*|\.\d+){_EXPONENT}", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_PADDED = re.compile(r"[+-]?0\d+", re.ASCII)
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_SPACES = " \u00a0\u2007\u2009\u202f"
_GROUPED = re.compile(
    rf"[+-]?(?:\d{{1,3}}(?:[.,'’_{_SPACES}]\d{{3}})+(?:[.,]\d+)?|\d*,\d+|\d+,)"
    rf"{_EXPONENT}|[+-]?\d{{1,3}}(?:,\d{{2}})+,\d{{3}}(?:\.\d+)?",
    re.ASCII,
)
_FIGURE = rf"[+-]?[\d.,'’{_SPACES}]*\d[.,]?{_EXPONENT}"
_PERCENT = re.compile(rf"{_FIGURE}[{_SPACES}]*[%‰]", re.ASCII)
_CURRENCY = r"(?:[$€£¥₹₩₽฿¢]|EUR|USD|GBP|CHF|JPY|CNY)"
_MONEY = re.compile(
    rf"[+-]?{_CURRENCY}[{_SPACES}]*{_FIGURE}|{_FIGURE}[{_SPACES}]*{_CURRENCY}",
    re.ASCII,
)
_QUANTITY = re.compile(rf"({_FIGURE})[{_SPACES}]*((?:°|[^\W\d_])[^\d\s]*)")
_UNITS = frozenset(
    (
        *("kg", "g", "mg", "µg", "μg", "ug", "lb", "lbs", "oz", "cm", "mm", "m", "km"),
        *("in", "ft", "mi", "l", "ml", "dl", "cl", "°c", "°f", "mmhg", "bpm"),
        *("mmol/l", "mg/dl", "g/dl", "kpa", "pa", "hz", "khz", "mhz"),
        *("v", "w", "kw", "kwh"),
    )
)
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[ap]\.?m\.?)?"
_DATE = re.compile(
    rf"(?:\d{{4}}([-/.])\d{{1,2}}\1\d{{1,2}}|\d{{1,2}}([-/.])\d{{1,2}}\2(?:\d{{4}}|\d{{2}})"
    rf"|\d{{4}}[-/](?:0[1-9]|1[0-2])|\d{{1,2}}[-. ]+{_MONTH}[-., ]+\d{{2,4}}"
    rf"|{_MONTH}\.? \d{{1,2}},? \d{{4}}|{_MONTH}[-. ]+\d{{4}})"
    rf"(?:[T ]{_CLOCK}(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?)?",
    re.IGNORECASE | re.ASCII,
)
_TIME = re.compile(_CLOCK, re.IGNORECASE | re.ASCII)
# Unicode minus signs, accounting's parentheses, a minus behind, other digits.
_MINUS = "−–‒﹣－"
# No unit has one of them.
SIGNS = f"+-(){_MINUS}"
_ODD = re.compile(rf"\({_FIGURE}\)|[{_MINUS}]{_FIGURE}|{_FIGURE}[-{_MINUS}]", re.ASCII)
_OTHER_DIGITS = re.compile(r"[+-]?[\d.,]*\d[\d.,]*")
YES = frozenset({"true", "t", "yes", "y", "on", "1"})
NO = frozenset({"false", "f", "no", "n", "off", "0"})


def kind(text: str) -> str:
    """The kind of a trimmed text, by how it is written: one of this module's words.

    Example:
      >>> from tfl_research.data.tables import written
      >>> [written.kind(text) for text in ("7", "007", "1,5", "5%", "1/2/2020", "yes")]
      ... # doctest: +NORMALIZE_WHITESPACE
      ['an integer', 'an integer with leading zeros',
       'a number with signs between its digits', 'a percentage', 'a date',
       'a truth value']
    """
    if text.lower() in MISSING:
        return MISSING_WORD
    if _INTEGER.fullmatch(text):
        return PADDED if _PADDED.fullmatch(text) else INTEGER
    if NUMBER.fullmatch(text):
        return DECIMAL
    if text.lower() in YES or text.lower() in NO:
        return TRUTH
    return _other_kind(text)


def _other_kind(text: str) -> str:
    if _INFINITE.fullmatch(text):
        return NOT_FINITE
    for pattern, found in (
        (_DATE, DATE),
        (_TIME, TIME),
        (_GROUPED, GROUPED),
        (_PERCENT, PERCENT),
        (_MONEY, MONEY),
        (_ODD, ODD_NUMBER),
        (_OTHER_DIGITS, ODD_NUMBER),
    ):
        if pattern.fullmatch(text):
            # A version or a list of numbers, as 1.2.3, has ASCII digits.
            if pattern is _OTHER_DIGITS and text.isascii():
                continue
            return found
    return QUANTITY if unit(text) is not None else TEXT


def unit(text: str) -> Optional[str]:
    """The unit behind the number of a quantity such as 5 kg; None for other texts.

    Units of the calendar, such as 36 months, are not such units: they name categories
    as often.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2].lower() not in _UNITS:
        return None
    return match[2]


def value(text: str) -> Optional[decimal.Decimal]:
    """The exact value of a plainly written, finite number; None for other texts."""
    if not NUMBER.fullmatch(text):
        return None
    try:
        return decimal.Decimal(text)
    except decimal.InvalidOperation:
        return None


def whole(text: str) -> Optional[str]:
    """The digits of a plainly written whole number: 2.0 and 2 give "2".

    None for a fraction, for other texts, and beyond 10^40, which is no name.
    """
    number = value(text)
    if number is None or number.adjusted() > 40:
        return None
    with decimal.localcontext() as context:
        context.prec = 120
        if number != number.to_integral_value():
            return None
        return "0" if number == 0 else format(number.to_integral_value(), "f")
