"""What is said of a round in which an aggregator could not keep its promise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional


def breakdown_line(row: Mapping[str, Any]) -> Optional[str]:
    """A warning of a round that was skipped, or that another rule aggregated.

    Args:
      row: of metrics.csv; `aggregator_skipped` and `aggregator_fell_back` are 1 in
        such rounds, see `aggregators.StackingFactory`.

    Returns:
      One line with the round, its cohort and what was done; None for other rounds.
    """
    if row.get("aggregator_skipped"):
        done = "the round is skipped, and the model stays as it was"
    elif row.get("aggregator_fell_back"):
        done = "the rule of --on_breakdown takes its place"
    else:
        return None
    counts = f"cohort {row.get('cohort_size', 'withheld')}"
    if row.get("aggregator_excluded"):
        counts += f", {row['aggregator_excluded']:g} excluded"
    return (
        f"warning: round {row['round']}: the aggregation rule cannot keep its promise "
        f"({counts}): {done}"
    )
