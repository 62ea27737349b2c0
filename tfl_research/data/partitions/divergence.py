"""Compares clients' label distributions with the pooled labels, and clients' sizes.

All functions of labels take counts `[clients, classes]`, such as
`statistics.label_statistics` makes, and return float64 `[clients]`, NaN for a client
without labels. For sequences the counts are of tokens, in any order.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tfl_research.data.batching import derived_generator


def _distributions(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each client's distribution `[clients, classes]`, and the pooled `[classes]`."""
    counts = np.asarray(labels, np.float64)
    if counts.ndim != 2 or np.any(counts < 0):
        raise ValueError(
            "labels must be counts [clients, classes], none negative; got an array "
            f"of shape {counts.shape}"
        )
    with np.errstate(invalid="ignore"):
        shares = counts / counts.sum(axis=1, keepdims=True)
        pooled = counts.sum(axis=0) / counts.sum()
    return shares, pooled


def _entropies(shares: np.ndarray) -> np.ndarray:
    """Shannon entropies over the last axis, in bits; 0 log 0 = 0."""
    logarithms = np.log2(np.where(shares > 0, shares, 1.0))
    entropies: np.ndarray = -(shares * logarithms).sum(axis=-1)
    return entropies


def total_variation(labels: np.ndarray) -> np.ndarray:
    """Computes total variation sum |p_k - p| / 2, from 0 (equal) to 1 (disjoint)."""
    return l1_distance(labels) / 2


def l1_distance(labels: np.ndarray) -> np.ndarray:
    """Computes Zhao et al.'s earth mover's distance sum |p_k - p|, from 0 to 2.

    Zhao et al. 2018 (arXiv 1806.00582) bound the divergence of weights by this
    distance, which is twice the total variation. All labels are equally far apart.
    """
    shares, pooled = _distributions(labels)
    distances: np.ndarray = np.abs(shares - pooled).sum(axis=1)
    return distances


def jensen_shannon(labels: np.ndarray) -> np.ndarray:
    """Computes the Jensen-Shannon divergence in bits, from 0 (same) to 1 (disjoint).

    The divergence is H((p_k + p) / 2) - (H(p_k) + H(p)) / 2 with H the entropy in bits
    (Lin 1991, "Divergence measures based on the Shannon entropy").
    """
    shares, pooled = _distributions(labels)
    mixed = _entropies((shares + pooled) / 2)
    # For equal distributions, rounding must not give a negative divergence.
    return np.maximum(mixed - (_entropies(shares) + _entropies(pooled)) / 2, 0.0)


def effective_classes(labels: np.ndarray) -> np.ndarray:
    """Computes 2 to the entropy (in bits) of a client's labels.

    The result is 1 for a single label, and C for C equally frequent labels (Hill 1973,
    the diversity of order 1).
    """
    shares, _ = _distributions(labels)
    return np.exp2(_entropies(shares))


# The statistics of a task's description, in this order.
STATISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "total variation": total_variation,
    "Jensen-Shannon (bits)": jensen_shannon,
    "L1 = earth mover's": l1_distance,
    "effective classes": effective_classes,
}


def gini(sizes: np.ndarray) -> float:
    """Computes the Gini coefficient of clients' sizes, from 0 (equal) to 1 - 1/N.

    The coefficient is half of the mean absolute difference of two clients' sizes, over
    the mean size. It is 1 - 1/N if one of N clients holds all examples.

    Args:
      sizes: `[clients]`, none negative.

    Returns:
      The coefficient; NaN without examples.

    Raises:
      ValueError: a size is negative or not finite.
    """
    ordered = np.sort(np.asarray(sizes, np.float64))
    if (
        ordered.ndim != 1
        or not np.all(ordered >= 0)
        or not np.all(np.isfinite(ordered))
    ):
        raise ValueError(f"sizes must be finite and at least 0, got {sizes}")
    if ordered.sum() == 0:
        return float("nan")
    count = len(ordered)
    ranks = 2 * np.arange(1, count + 1) - count - 1
    return float((ranks * ordered).sum() / (count * ordered.sum()))


def iid_counts(labels: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Draws label counts of IID clients of the same sizes, by multinomial draws.

    Small clients differ from the pooled labels by chance. Heterogeneity is the
    difference beyond chance.

    Args:
      labels: counts `[clients, classes]`.
      seed: the seed of the draws.

    Returns:
      Int64 `[clients, classes]`; zeros without labels.
    """
    labels = np.asarray(labels, np.int64)
    if labels.sum() == 0:
        return np.zeros_like(labels)
    generator = derived_generator("chance_divergence", seed)
    pooled = labels.sum(axis=0) / labels.sum()
    iid_labels: np.ndarray = generator.multinomial(labels.sum(axis=1), pooled)
    return iid_labels
