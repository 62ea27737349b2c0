"""Coarse numbers for publication: ends of ranges, means, deviations, counts."""

from __future__ import annotations

import decimal
import math

_EXACT = 0


def _unit(size: float, digits: int) -> decimal.Decimal:
    """Returns the unit of the last of `digits` digits of a size > 0: 48, 1 -> 10."""
    exponent = math.floor(math.log10(size)) - (digits - 1)
    return decimal.Decimal(1).scaleb(exponent)


def _to_unit(value: float, unit: decimal.Decimal, rounding: str) -> float:
    steps = (decimal.Decimal(repr(value)) / unit).to_integral_value(rounding)
    return float(steps * unit)


def outward(low: float, high: float, digits: int) -> tuple[float, float]:
    """Widens a range to multiples of a unit.

    Args:
      low, high: the range; the two may be equal.
      digits: the unit is the last of this many digits of the range's width, or of the
        number itself if the width is 0. 0 leaves the range as it is.

    Example:
      >>> from tfl_research.data.tables.agreement import rounding
      >>> rounding.outward(29, 77, digits=1), rounding.outward(29, 77, digits=2)
      ((20.0, 80.0), (29.0, 77.0))
    """
    size = high - low or abs(low)
    if digits == _EXACT or size == 0:
        return float(low), float(high)
    unit = _unit(size, digits)
    return (
        _to_unit(low, unit, decimal.ROUND_FLOOR),
        _to_unit(high, unit, decimal.ROUND_CEILING),
    )


def nearest(value: float, size: float, digits: int) -> float:
    """Rounds to a multiple of the unit of `digits` digits of `size`; 0 keeps `value`.

    Example:
      >>> from tfl_research.data.tables.agreement import rounding
      >>> rounding.nearest(53.5, 9.4, digits=1), rounding.nearest(53.5, 9.4, digits=2)
      (54.0, 53.5)
    """
    if digits == _EXACT or size == 0:
        return float(value)
    return _to_unit(value, _unit(size, digits), decimal.ROUND_HALF_EVEN)
