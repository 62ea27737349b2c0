"""Single noise numbers from a secret key, the same at every start of a run.

A number is a function of key, purpose and round: HMAC-SHA256 is the pseudo-random
function, and 256 bits go through the inverse of the distribution function. So the
tails reach as far as float64 does, and no TensorFlow is needed.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from fractions import Fraction

from scipy import special

_BITS = 256


def _uniform(key: int, purpose: str, round_number: int) -> tuple[float, float]:
    """Draws a number u uniform in (0, 1); returns u and 1 - u to full precision."""
    message = f"{purpose} {round_number}".encode()
    digest = hmac.new(b"%d" % key, message, hashlib.sha256).digest()
    drawn = 2 * int.from_bytes(digest, "big") + 1
    whole = 2 ** (_BITS + 1)
    return float(Fraction(drawn, whole)), float(Fraction(whole - drawn, whole))


def normal(key: int, purpose: str, round_number: int) -> float:
    """Draws a standard normal number.

    Args:
      key: the secret key, at least 0.
      purpose: the purpose; numbers for different purposes are independent.
      round_number: the round; numbers of different rounds are independent.
    """
    lower, upper = _uniform(key, purpose, round_number)
    if lower < upper:
        return float(special.ndtri(lower))
    return -float(special.ndtri(upper))


def gumbel(key: int, purpose: str, round_number: int) -> float:
    """Draws a standard Gumbel number; its distribution function is exp(-exp(-x)).

    See `normal` for the arguments.
    """
    lower, upper = _uniform(key, purpose, round_number)
    exponential = -math.log1p(-lower) if lower < upper else -math.log(upper)
    return -math.log(exponential)
