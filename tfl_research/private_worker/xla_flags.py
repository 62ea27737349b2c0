"""Sets XLA's flag, which a process reads once, at its first compilation."""

from __future__ import annotations

# The flag of XLA that engines and workers set, unless the user has set it.
_FLAG = "--xla_cpu_enable_fast_min_max"


def with_flags(given: str) -> str:
    """Returns a value of XLA_FLAGS with the flag that keeps NaN a NaN.

    XLA's fast minimum and maximum lose NaN: a clipped NaN would become a number.

    Args:
      given: the present value, whose flags are kept.
    """
    return given if _FLAG in given else f"{given} {_FLAG}=false".strip()
