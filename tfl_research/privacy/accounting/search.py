"""Finds the whole number at which a value that is slow to compute crosses a limit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Optional


def boundary(
    value: Callable[[int], float], limit: float, inside: int, outside: int
) -> int:
    """Finds the number with a value of at most `limit` that is nearest to `outside`.

    `value` is monotone, at most `limit` at `inside` and above `limit` at `outside`.
    `inside` may be above or below `outside`. The search interpolates, since a value
    takes a tenth of a second.
    """
    excesses: dict[int, float] = {}

    def log_excess(number: int) -> float:
        if number not in excesses:
            epsilon = value(number) if number else math.nan
            excesses[number] = math.log(epsilon / limit) if epsilon > 0 else -math.inf
        return excesses[number]

    turn = 0
    while abs(outside - inside) > 1:
        middle = math.sqrt(max(inside, 1) * max(outside, 1))
        ends = log_excess(inside), log_excess(outside)
        turn += 1
        # Every third step halves, in case the curve is far from a power law.
        if turn % 3 and min(inside, outside) > 0 and all(map(math.isfinite, ends)):
            share = -ends[0] / (ends[1] - ends[0])
            middle = inside * (outside / inside) ** share
        low, high = min(inside, outside) + 1, max(inside, outside) - 1
        number = min(max(round(middle), low), high)
        if log_excess(number) <= 0:
            inside = number
        else:
            outside = number
    return inside


def least_from(holds: Callable[[int], bool], guess: int, most: int) -> Optional[int]:
    """Finds the least whole number of at least 1 for which a condition holds.

    Args:
      holds: the condition. If it holds for a number, it holds for all larger numbers.
      guess: a number of at least 1 near the result, so that few numbers are tried.
      most: the search ends above this number.

    Returns:
      The number; None if the condition does not hold for a number up to `most`.
    """
    step = 1
    if holds(guess):
        inside, outside = guess, max(guess - 1, 0)
        while outside > 0 and holds(outside):
            step *= 2
            inside, outside = outside, max(outside - step, 0)
    else:
        inside, outside = guess + 1, guess
        while not holds(inside):
            step *= 2
            inside, outside = inside + step, inside
            if inside > most:
                return None
    while inside - outside > 1:
        middle = (inside + outside) // 2
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return inside
