"""Prints ε and δ rounded up, so that the printed number is a bound."""

from __future__ import annotations

import decimal
import math


def rounded_up(value: float, digits: int = 4) -> str:
    """Returns the least decimal with this many digits that is at least the value."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    up = decimal.Context(prec=digits, rounding=decimal.ROUND_CEILING)
    # A value that is above a decimal only by rounding counts as this decimal.
    exact = decimal.Decimal(value) * (1 - decimal.Decimal("1e-12"))
    return f"{float(up.plus(exact)):.{digits}g}"
