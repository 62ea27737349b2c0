"""XLA's flags, which a process reads once, at its first compilation."""

from __future__ import annotations

# Each of XLA's flags that engines and workers set, unless the user has set it.
_FLAGS = ("--xla_cpu_multi_thread_eigen", "--xla_cpu_enable_fast_min_max")


def with_flags(given: str) -> str:
    """A value of XLA_FLAGS with those that keep chunks on one core and NaN a NaN.

    Chunks use all cores already. Dividing a client's small matrix products over cores
    makes rounds slower (W1 of scripts/bench: 20 ms a round with division, 16 ms
    without). XLA's fast minimum and maximum lose NaN: a clipped NaN would become a
    number.

    Args:
      given: the value so far; its flags stay.
    """
    for flag in _FLAGS:
        if flag not in given:
            given = f"{given} {flag}=false".strip()
    return given
