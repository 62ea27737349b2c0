"""The rules once more, in NumPy and float64, written from the papers' definitions.

Loops over rows and coordinates, and no masks: what is absent or excluded is left out
of the list of rows before a function is called.
"""

from __future__ import annotations

import itertools

import numpy as np


def coordinate_median(rows):
    return np.median(rows, axis=0)


def weighted_median(rows, weights):
    result = []
    for column in rows.T:
        order = np.argsort(column, kind="stable")
        values, share = column[order], np.cumsum(weights[order]) / weights.sum()
        at = next(i for i, s in enumerate(share) if s >= 0.5 - 1e-12)
        exactly = abs(share[at] - 0.5) <= 1e-12
        result.append(values[at : at + 1 + exactly].mean())
    return np.array(result)


def trimmed_mean(rows, trim):
    return np.sort(rows, axis=0)[trim : len(rows) - trim].mean(axis=0)


def weighted_trimmed_mean(rows, weights, share):
    """Integrates the quantile function between the cuts, by whole and part pieces."""
    result = []
    for column in rows.T:
        order = np.argsort(column, kind="stable")
        edges = np.concatenate([[0], np.cumsum(weights[order]) / weights.sum()])
        total = 0.0
        for value, low, high in zip(column[order], edges, edges[1:]):
            total += value * max(0.0, min(high, 1 - share) - max(low, share))
        result.append(total / (1 - 2 * share))
    return np.array(result)


def mean_around(column, centre, size):
    """Of values equally far from the centre the lower ones come first."""
    return sorted(column, key=lambda v: (abs(v - centre), v))[:size]


def mean_around_median(rows, byzantine):
    size = len(rows) - byzantine
    return np.array([np.mean(mean_around(c, np.median(c), size)) for c in rows.T])


def sign_majority(rows, weights=None):
    weights = np.ones(len(rows)) if weights is None else weights
    return np.sign((np.sign(rows) * weights[:, None]).sum(axis=0))


def squared_distances(rows):
    return np.array([[np.sum((a - b) ** 2) for b in rows] for a in rows])


def krum_scores(rows, byzantine, minimum=0):
    squared = squared_distances(rows)
    neighbours = max(len(rows) - byzantine - 2, minimum)
    scores = []
    for i in range(len(rows)):
        others = np.delete(squared[i], i)
        scores.append(np.sort(others)[:neighbours].sum())
    # Ties within float32 are ties.
    return np.sqrt(scores).astype(np.float32)


def in_tie_order(rows):
    """The rows so that of equal ones the first is to be taken."""
    golden = (np.sqrt(5) - 1) / 2
    steps = np.arange(1, rows.shape[1] + 1) * golden
    return rows[np.argsort(rows @ (steps % 1 - 0.5), kind="stable")]


def krum(rows, byzantine):
    rows = in_tie_order(rows)
    return rows[np.argmin(krum_scores(rows, byzantine))]


def multi_krum(rows, byzantine, select):
    rows = in_tie_order(rows)
    best = np.argsort(krum_scores(rows, byzantine), kind="stable")[:select]
    return rows[best].mean(axis=0)


def bulyan(rows, byzantine):
    left, selected = list(in_tie_order(rows)), []
    for _ in range(len(rows) - 2 * byzantine):
        scores = krum_scores(np.array(left), byzantine, minimum=1)
        selected.append(left.pop(int(np.argmin(scores))))
    result = []
    for column in np.array(selected).T:
        # The element of least total distance to the others, the lower of two.
        sums = [np.abs(column - v).sum() for v in np.sort(column)]
        least = np.flatnonzero(np.isclose(sums, min(sums), rtol=1e-12, atol=0))[0]
        median = np.sort(column)[least]
        closest = mean_around(column, median, len(selected) - 2 * byzantine)
        result.append(np.mean(closest))
    return np.array(result)


def geometric_median(rows, weights=None):
    """By Newton's method from a row or a point of Weiszfeld's; no worse than a row."""
    weights = np.ones(len(rows)) if weights is None else weights

    def total(point):
        return weights @ np.linalg.norm(rows - point, axis=1)

    best = min(rows, key=total)
    # The subgradient's condition for a row to be the minimiser.
    away = np.linalg.norm(rows - best, axis=1)
    others = away > 0
    pull = (weights[others] / away[others]) @ (rows[others] - best)
    if np.linalg.norm(pull) <= weights[~others].sum():
        return best
    point = np.median(rows, axis=0)
    for _ in range(200):
        strength = weights / np.linalg.norm(rows - point, axis=1)
        point = strength @ rows / strength.sum()
    for _ in range(20):
        apart = rows - point
        lengths = np.linalg.norm(apart, axis=1)
        units, strength = apart / lengths[:, None], weights / lengths
        curvature = strength.sum() * np.eye(rows.shape[1])
        curvature -= (units * strength[:, None]).T @ units
        point = point + np.linalg.solve(curvature, weights @ units)
    assert total(point) <= total(best)
    return point


def centered_clipping(rows, center, radius, iterations):
    for _ in range(iterations):
        apart = rows - center
        norms = np.linalg.norm(apart, axis=1, keepdims=True)
        clipped = apart * np.minimum(1, radius / np.maximum(norms, 1e-300))
        center = center + clipped.mean(axis=0)
    return center


def norm_clipping(rows, weights, radius):
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    clipped = rows * np.minimum(1, radius / np.maximum(norms, 1e-300))
    return weights @ clipped / weights.sum()


def trusted_root(rows, root):
    length = np.linalg.norm(root)
    total, trust_sum = np.zeros_like(root), 0.0
    for row in rows:
        norm = np.linalg.norm(row)
        if norm == 0 or length == 0:
            continue
        trust = max(0.0, row @ root / (norm * length))
        total += trust * length / norm * row
        trust_sum += trust
    return total / trust_sum if trust_sum else total


def nearest_neighbour_mixing(rows, byzantine):
    ordered = in_tie_order(rows)
    size = len(rows) - byzantine
    result = []
    for row in rows:
        apart = np.linalg.norm(ordered - row, axis=1).astype(np.float32)
        result.append(ordered[np.argsort(apart, kind="stable")[:size]].mean(axis=0))
    return np.array(result)


def buckets(order, size):
    """The permuted indices in groups."""
    iterator = iter(order)
    return list(iter(lambda: list(itertools.islice(iterator, size)), []))
