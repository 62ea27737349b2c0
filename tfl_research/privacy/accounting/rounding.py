"""ε and δ as text, rounded up: the printed number is a bound."""

from __future__ import annotations

import math


def rounded_up(value: float, digits: int = 4) -> str:
    """The least decimal of so many significant digits that is not below the value."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    # A value that only rounding put above a decimal counts as that decimal.
    scaled = math.ceil(value * 10.0**places * (1 - 1e-12))
    return f"{scaled / 10.0**places:.{digits}g}"
