"""Comparisons of clients' features, overall and for equal labels.

Label distributions do not show rotated or noisy images, or different meanings of the
same labels; these statistics do. Distances are squared, in units of the total variance
of all examples (the sum over features), so that their expectation over IID clients is
exact and needs no draws.
"""

from __future__ import annotations

import collections
from typing import NamedTuple, Optional

import numpy as np

from tfl_research.data.client_data import ClientData


class Figures(NamedTuple):
    """A statistic, float64 `[clients]`; NaN for clients without examples.

    Attributes:
      values: the values of each client.
      iid: expected value for a client of the same size (and with the same labels)
        whose examples are drawn from all examples without replacement.
    """

    values: np.ndarray
    iid: np.ndarray


class _Pool:
    """Sums over all examples of a label."""

    def __init__(self, dimension: int):
        self.count = 0
        self.total = np.zeros(dimension)
        self.squares = 0.0

    def add(self, x: np.ndarray) -> None:
        self.count += len(x)
        self.total += x.sum(axis=0)
        self.squares += float(np.square(x).sum())

    @property
    def mean(self) -> np.ndarray:
        return self.total / self.count

    @property
    def variance(self) -> float:
        """Mean squared distance from the mean; rounding must not make it negative."""
        return max(self.squares / self.count - float(self.mean @ self.mean), 0.0)

    def iid_shift(self, size: int) -> float:
        """Expected squared distance of the mean of `size` examples from the mean."""
        if size == self.count:
            return 0.0
        correction = (self.count - size) / (self.count - 1)
        return self.variance * correction / size


def feature_divergence(data: ClientData) -> dict[str, Figures]:
    """Statistics of the clients' features, by their names in a description.

    Let m_k and m be the means of client k's features and of all features, and v the
    total variance. "mean shift" is |m_k - m|^2 / v, and "variance" is the client's
    total variance over v. "shift given label" is the mean over a client's examples of
    |m_kc - m_c|^2 / v, with the means m_kc and m_c of the examples of label c; it is
    left out if labels are no classes.

    Args:
      data: x of a floating-point type; every client is loaded twice.

    Returns:
      Statistics by name; empty if features are several arrays, not of a floating-point
      type, or all equal.
    """
    if "x" not in data.specs or np.dtype(data.specs["x"].dtype).kind != "f":
        return {}
    labels = data.specs.get("y")
    classes = (
        labels is not None and np.dtype(labels.dtype).kind in "iu" and not labels.shape
    )
    dimension = int(np.prod(data.specs["x"].shape, dtype=np.int64))
    pools: dict[int, _Pool] = collections.defaultdict(lambda: _Pool(dimension))
    all_examples = _Pool(dimension)
    for _, examples in data.items():
        x = np.asarray(examples["x"], np.float64).reshape(-1, dimension)
        all_examples.add(x)
        for label in np.unique(examples["y"]) if classes else ():
            pools[int(label)].add(x[examples["y"] == label])
    if not all_examples.count or not all_examples.variance:
        return {}
    names = ["mean shift", "variance"] + (["shift given label"] if classes else [])
    pairs = {n: (np.full(len(data), np.nan), np.full(len(data), np.nan)) for n in names}
    for row, (_, examples) in enumerate(data.items()):
        x = np.asarray(examples["x"], np.float64).reshape(-1, dimension)
        if not len(x):
            continue
        y = examples.get("y")
        for name, pair in _of_client(x, y, all_examples, pools).items():
            pairs[name][0][row], pairs[name][1][row] = pair
    return {name: Figures(*pair) for name, pair in pairs.items()}


def _of_client(
    x: np.ndarray,
    y: Optional[np.ndarray],
    all_examples: _Pool,
    pools: dict[int, _Pool],
) -> dict[str, tuple[float, float]]:
    """A client's statistics and their expectations; y may be None without pools."""
    size, total, variance = len(x), all_examples.count, all_examples.variance
    mean = x.mean(axis=0)
    spread = float(np.square(x - mean).sum() / size)
    unbiased = total / (total - 1) if total > 1 else 1.0
    figures = {
        "mean shift": (
            _squared_distance(mean, all_examples.mean) / variance,
            all_examples.iid_shift(size) / variance,
        ),
        "variance": (spread / variance, unbiased * (size - 1) / size),
    }
    if pools and y is not None:
        shift = expected = 0.0
        for label, count in zip(*np.unique(y, return_counts=True)):
            pool, share = pools[int(label)], count / size
            label_mean = x[y == label].mean(axis=0)
            shift += share * _squared_distance(label_mean, pool.mean)
            expected += share * pool.iid_shift(int(count))
        figures["shift given label"] = (shift / variance, expected / variance)
    return figures


def _squared_distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square(a - b).sum())
