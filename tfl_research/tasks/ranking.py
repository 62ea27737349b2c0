"""Computes metrics of the order of scores exactly, in NumPy."""

from __future__ import annotations

import numpy as np


def auc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Computes the area under the ROC curve, as the Mann-Whitney statistic.

    The area is the probability that a positive example has a higher score than a
    negative example, where equal scores count half. It is exact up to float64 rounding,
    for any share of positives and any scale of the scores.

    Args:
      positive: bool `[n]`, whether each example is positive.
      scores: float `[n]`, higher for positive examples; any increasing function of the
        scores has the same area.

    Returns:
      The area; NaN if all examples have one class, or if a score is NaN.
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


def average_precision(positive: np.ndarray, scores: np.ndarray) -> float:
    """Computes the area under the precision-recall curve, as the average precision.

    This is Σ (R_k - R_{k-1}) P_k over the distinct scores from the highest to the
    lowest, where P_k and R_k are precision and recall of the examples with at least the
    k-th score. The curve is not interpolated between two scores.

    The arguments are as in `auc`.

    Returns:
      The area; NaN without positive examples, or if a score is NaN.
    """
    scores = np.asarray(scores)
    positive = np.asarray(positive, bool)
    num_positive = int(np.count_nonzero(positive))
    if not num_positive or np.isnan(scores).any():
        return float("nan")
    values, places = np.unique(-scores, return_inverse=True)
    at_least = np.cumsum(np.bincount(places, minlength=len(values)))
    hits = np.bincount(places, weights=positive, minlength=len(values))
    precision = np.cumsum(hits) / at_least
    return float((hits * precision).sum() / num_positive)


def auc_of_labels(y: np.ndarray, outputs: np.ndarray) -> float:
    """Computes `auc` of labels 0 and 1, with an output for each example."""
    return auc(np.reshape(y, -1) > 0.5, np.reshape(outputs, -1))


def average_precision_of_labels(y: np.ndarray, outputs: np.ndarray) -> float:
    """Computes `average_precision` of labels 0 and 1, with an output per example."""
    return average_precision(np.reshape(y, -1) > 0.5, np.reshape(outputs, -1))


def mean_auc(y: np.ndarray, outputs: np.ndarray) -> float:
    """Computes the mean `auc` over labels `[n, labels]` that have both classes.

    The mean is NaN if any score is NaN.
    """
    if np.isnan(outputs).any():
        return float("nan")
    areas = [auc(y[:, i] > 0.5, outputs[:, i]) for i in range(y.shape[1])]
    known = [area for area in areas if not np.isnan(area)]
    return float(np.mean(known)) if known else float("nan")


def mean_average_precision(y: np.ndarray, outputs: np.ndarray) -> float:
    """Computes mean `average_precision` over labels `[n, labels]` with positives.

    The mean is NaN if any score is NaN.
    """
    if np.isnan(outputs).any():
        return float("nan")
    columns = range(y.shape[1])
    areas = [average_precision(y[:, i] > 0.5, outputs[:, i]) for i in columns]
    known = [area for area in areas if not np.isnan(area)]
    return float(np.mean(known)) if known else float("nan")
