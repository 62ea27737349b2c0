"""How unlike clients' features are, by themselves and for the same label.

Label distributions show nothing of clients whose images are rotated or noisy, or who
mean other things by the same labels; these figures do. Distances are squared, in units
of the total variance of all examples (the sum over features), so that their expectation
over IID clients is exact and needs no draws.
"""

from __future__ import annotations

import collections
from typing import NamedTuple

import numpy as np

from tfl_research.data.client_data import ClientData


class Figures(NamedTuple):
    """One statistic, float64 `[clients]`; NaN for clients without examples.

    Attributes:
      values: of each client.
      iid: what is to be expected of a client of the same size (and with the same
        labels) whose examples were drawn from all clients' without replacement.
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

    def iid_shift(self, drawn: int) -> float:
        """Expected squared distance of the mean of so many examples from the mean."""
        if drawn == self.count:
            return 0.0
        left = (self.count - drawn) / (self.count - 1)
        return self.variance * left / drawn


def feature_divergence(data: ClientData) -> dict[str, Figures]:
    """Statistics of the clients' features, by their names in a description.

    With m_k and m the means of client k's and of all features, and v the total
    variance, "mean shift" is |m_k - m|^2 / v, and "variance" the client's own total
    variance by v. "shift given label" is the mean over a client's examples of
    |m_kc - m_c|^2 / v, m_kc and m_c being the means of the example's label c; where
    labels are no classes it is left out.

    Args:
      data: x of a floating-point type; every client is loaded twice.

    Returns:
      Nothing where features are no numbers, or all the same.
    """
    if np.dtype(data.specs["x"].dtype).kind != "f":
        return {}
    labels = data.specs["y"]
    classes = np.dtype(labels.dtype).kind in "iu" and not labels.shape
    dimension = int(np.prod(data.specs["x"].shape, dtype=np.int64))
    pools: dict[int, _Pool] = collections.defaultdict(lambda: _Pool(dimension))
    everything = _Pool(dimension)
    for _, examples in data.items():
        x = np.asarray(examples["x"], np.float64).reshape(-1, dimension)
        everything.add(x)
        for label in np.unique(examples["y"]) if classes else ():
            pools[int(label)].add(x[examples["y"] == label])
    if not everything.count or not everything.variance:
        return {}
    names = ["mean shift", "variance"] + (["shift given label"] if classes else [])
    pairs = {n: (np.full(len(data), np.nan), np.full(len(data), np.nan)) for n in names}
    for row, (_, examples) in enumerate(data.items()):
        x = np.asarray(examples["x"], np.float64).reshape(-1, dimension)
        if not len(x):
            continue
        for name, pair in _of_client(x, examples["y"], everything, pools).items():
            pairs[name][0][row], pairs[name][1][row] = pair
    return {name: Figures(*pair) for name, pair in pairs.items()}


def _of_client(
    x: np.ndarray, y: np.ndarray, everything: _Pool, pools: dict[int, _Pool]
) -> dict[str, tuple[float, float]]:
    """The statistics and their expectations of one client."""
    size, whole, variance = len(x), everything.count, everything.variance
    mean = x.mean(axis=0)
    spread = float(np.square(x - mean).sum() / size)
    unbiased = whole / (whole - 1) if whole > 1 else 1.0
    figures = {
        "mean shift": (
            _squared_distance(mean, everything.mean) / variance,
            everything.iid_shift(size) / variance,
        ),
        "variance": (spread / variance, unbiased * (size - 1) / size),
    }
    if pools:
        shift = expected = 0.0
        for label, count in zip(*np.unique(y, return_counts=True)):
            pool, share = pools[int(label)], count / size
            own = x[y == label].mean(axis=0)
            shift += share * _squared_distance(own, pool.mean)
            expected += share * pool.iid_shift(int(count))
        figures["shift given label"] = (shift / variance, expected / variance)
    return figures


def _squared_distance(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.square(first - second).sum())
