"""Robust aggregation rules and pre-aggregations: pure functions of stacked updates.

`aggregators.stacking` stacks updates and makes TFF aggregations from rules.
`aggregators.RuleSettings` says how many rows each rule needs.
"""

from tfl_research.aggregators.rules.clipping import (
    centered_clipping,
    mean,
    norm_clipping,
    trust_scores,
    trusted_root,
)
from tfl_research.aggregators.rules.coordinatewise import (
    coordinate_median,
    mean_around_median,
    sign_majority,
    trimmed_mean,
)
from tfl_research.aggregators.rules.geometric import geometric_median
from tfl_research.aggregators.rules.mixing import bucketing, nearest_neighbour_mixing
from tfl_research.aggregators.rules.rows import Rows, screen
from tfl_research.aggregators.rules.selection import bulyan, krum, multi_krum

__all__ = [
    "Rows",
    "bucketing",
    "bulyan",
    "centered_clipping",
    "coordinate_median",
    "geometric_median",
    "krum",
    "mean",
    "mean_around_median",
    "multi_krum",
    "nearest_neighbour_mixing",
    "norm_clipping",
    "screen",
    "sign_majority",
    "trimmed_mean",
    "trust_scores",
    "trusted_root",
]
