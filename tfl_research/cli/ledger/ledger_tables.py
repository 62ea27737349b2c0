"""Makes the tables of scripts/privacy_ledger, and computes ε for them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.events.search_event import (
    HyperparameterSearchEvent,
)
from tfl_research.privacy.accounting.relations import Total


def table(rows: Iterable[Sequence[str]]) -> str:
    """Aligns cells in lines: two columns to the left, the others to the right."""
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = []
    for row in cells:
        shown = [
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(shown).rstrip())
    return "\n".join(lines)


def short(event: Event) -> str:
    """Describes an event: kind, noise multiplier and sampling rate, or ε of pure DP."""
    words, base = [event.kind], event
    while isinstance(base, HyperparameterSearchEvent):
        base = base.base
        words.append(f"of {base.kind}")
    for value, symbol in ((base.noise, "z"), (base.rate, "q")):
        if value is not None:
            words.append(f"{symbol}={value:.4g}")
    pure = base.as_pure_rounds(1)
    if pure is not None:
        words.append(f"ε={pure[0]:.4g}")
    return " ".join(words)


@functools.cache
def _cached(
    groups: tuple[tuple[Event, int], ...], delta: float, accountant: str | None
) -> Total:
    # The import is slow.
    from tfl_research.privacy.accounting import totals

    return totals.composed_total(groups, delta, accountant)


def forget() -> None:
    """Empties the cache of `total`."""
    _cached.cache_clear()


def total(
    groups: Sequence[tuple[Event, int]], delta: float, accountant: str | None
) -> Total:
    """Returns `totals.composed_total`, cached for tables and plots."""
    return _cached(tuple(groups), delta, accountant)


def epsilon(
    groups: Sequence[tuple[Event, int]], delta: float, accountant: str | None
) -> float:
    """Returns ε of `total`."""
    return total(groups, delta, accountant).epsilon
