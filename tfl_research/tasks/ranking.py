"""Metrics of the order of scores, exactly, in NumPy."""

from __future__ import annotations

import numpy as np


def auc(positive: np.ndarray, scores: np.ndarray) -> float:
    """The area under the ROC curve, as the Mann-Whitney statistic.

    It is the probability that a positive example has a higher score than a negative
    one, where equal scores count half. It is exact up to float64 rounding, for any
    share of positives and any scale of the scores.

    Args:
      positive: bool `[n]`.
      scores: float `[n]`, higher for positive examples; any increasing function of the
        scores has the same area.

    Returns:
      The area; NaN if all examples are of one class, or if a score is NaN.
    """
    scores = np.asarray(scores)
    positive = np.asarray(positive, bool)
    num_positive = int(np.count_nonzero(positive))
    num_negative = len(positive) - num_positive
    if not (num_positive and num_negative) or np.isnan(scores).any():
        return float("nan")
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    # The mean rank, from 1, of the examples with each score.
    ends = np.cumsum(counts)
    mean_ranks = ends - (counts - 1) / 2
    rank_sum = float(mean_ranks[places[positive]].sum())
    wins = rank_sum - num_positive * (num_positive + 1) / 2
    return wins / (num_positive * num_negative)
