"""The range, or mean and deviation, of a column of numbers of several sites."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tfl_research.data.tables.agreement.decisions import (
    ConflictError,
    Decisions,
    left_out,
)
from tfl_research.data.tables.agreement.draft import (
    MEAN,
    NONE,
    RANGE,
    Draft,
    NumberDraft,
)


def numeric(
    name: str,
    columns: Mapping[str, NumberDraft],
    drafts: Sequence[Draft],
    decisions: Decisions,
) -> dict[str, Any]:
    """The entry of a column of numbers; ConflictError if the sites disagree."""
    if name in decisions.ranges:
        low, high = decisions.ranges[name]
        outside = decisions.outside or "refuse"
        return {"minimum": low, "maximum": high, "outside": outside}
    sites = {
        scale: [s for s, c in columns.items() if c.scale == scale]
        for scale in (RANGE, MEAN, NONE)
    }
    known = f"give --range={name}=LOW:HIGH, which must be known without the data"
    if sites[RANGE] and sites[MEAN]:
        raise ConflictError(
            f"column {name!r} has a range at {', '.join(sites[RANGE])} and a mean "
            f"at {', '.join(sites[MEAN])}; draft again with the same --scales, or "
            f"{known}"
        )
    if sites[MEAN]:
        return _pooled(name, [columns[s] for s in sites[MEAN]], known)
    outside = decisions.outside or ("clip" if left_out(drafts) else "refuse")
    if not sites[RANGE] or (sites[NONE] and outside == "refuse"):
        raise ConflictError(
            f"column {name!r} has no range at {', '.join(sites[NONE])}; {known}, "
            "or draft again there with --scales=range"
            + (", or give --outside=clip" if sites[RANGE] else "")
        )
    low = min(float(columns[s].minimum or 0.0) for s in sites[RANGE])
    high = max(float(columns[s].maximum or 0.0) for s in sites[RANGE])
    if low == high:
        raise ConflictError(
            f"column {name!r} has the same number, {low:g}, at all sites; {known}, "
            f"or give --drop_columns={name}"
        )
    return {"minimum": low, "maximum": high, "outside": outside}


def _pooled(name: str, columns: Sequence[NumberDraft], known: str) -> dict[str, Any]:
    """The mean and deviation of all values, from the sites' counts and moments."""
    counts = [float(c.count or 0.0) for c in columns]
    means = [float(c.mean or 0.0) for c in columns]
    deviations = [float(c.deviation or 0.0) for c in columns]
    total = sum(counts)
    mean = sum(n * m for n, m in zip(counts, means)) / total
    squares = (
        n * (s**2 + (m - mean) ** 2) for n, m, s in zip(counts, means, deviations)
    )
    deviation = math.sqrt(sum(squares) / total)
    if deviation == 0:
        raise ConflictError(
            f"column {name!r} has the same number, {mean:g}, at all sites; {known}, "
            f"or give --drop_columns={name}"
        )
    return {"mean": mean, "deviation": deviation}
