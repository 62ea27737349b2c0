"""Tables as float32 features, with public ranges and categories.

Nothing is measured on the rows: a mean, a range or a list of categories that is
taken from clients' data is a release of its own, outside of any ε.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Union

import numpy as np
import pandas as pd

from tfl_research.data.batching import Batching
from tfl_research.data.client_data import ClientData
from tfl_research.data.cohort import Examples
from tfl_research.data.splits import held_out_clients, stratified_split


@dataclasses.dataclass(frozen=True)
class Numeric:
    """A number, scaled from a public range to [-1, 1] and clipped to it.

    Attributes:
      column: name of the table's column.
      low: value that becomes -1.
      high: value that becomes 1.
      logarithmic: scale log(1 + value) instead of the value; low is then above
        -1.
      may_be_missing: adds an indicator feature, 1 where the value is missing;
        the scaled value is then 0, the middle of the range.
      missing_values: values that stand for a missing one, such as 0 for a blood
        pressure.

    Raises:
      ValueError: the range is empty, or no logarithm exists.
    """

    column: str
    low: float
    high: float
    logarithmic: bool = False
    may_be_missing: bool = False
    missing_values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(
                f"{self.column}: low must be below high, got {self.low}, {self.high}"
            )
        if self.logarithmic and self.low <= -1:
            raise ValueError(f"{self.column}: log(1 + low) needs low > -1")

    def names(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return (self.column,) + (
            (f"{self.column} is missing",) if self.may_be_missing else ()
        )

    def encode(self, values: pd.Series) -> np.ndarray:
        """Features float32 `[n, len(names)]`.

        Raises:
          ValueError: a value is not a number, or is missing where none may be.
        """
        numbers, missing = _numbers(self.column, values)
        missing |= np.isin(numbers, self.missing_values)
        if not self.may_be_missing:
            _refuse_missing(self.column, missing)
        low, high = np.float64(self.low), np.float64(self.high)
        numbers = np.clip(np.where(missing, low, numbers), low, high)
        if self.logarithmic:
            numbers, low, high = np.log1p(numbers), np.log1p(low), np.log1p(high)
        scaled = np.where(missing, 0.0, 2.0 * (numbers - low) / (high - low) - 1.0)
        parts = [scaled, missing] if self.may_be_missing else [scaled]
        return np.stack(parts, axis=1).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Categorical:
    """One of a public list of categories, one-hot.

    Attributes:
      column: name of the table's column.
      categories: compared as text.
      other: adds a feature for values that are not in the list.
      may_be_missing: adds an indicator feature, 1 where the value is missing;
        all categories are then 0.

    Raises:
      ValueError: no categories, or one that occurs twice.
    """

    column: str
    categories: tuple[str, ...]
    other: bool = False
    may_be_missing: bool = False

    def __post_init__(self) -> None:
        if not self.categories or len(set(self.categories)) < len(self.categories):
            raise ValueError(
                f"{self.column}: expected distinct categories, got {self.categories}"
            )

    def names(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        extra = ("is other",) if self.other else ()
        extra += ("is missing",) if self.may_be_missing else ()
        return tuple(f"{self.column}={c}" for c in self.categories) + tuple(
            f"{self.column} {suffix}" for suffix in extra
        )

    def encode(self, values: pd.Series) -> np.ndarray:
        """Features float32 `[n, len(names)]`.

        Raises:
          ValueError: a value is not in the list, or missing, where that may not
            be.
        """
        missing = values.isna().to_numpy()
        if not self.may_be_missing:
            _refuse_missing(self.column, missing)
        # Each distinct value is compared once; -1 is a missing one.
        codes, distinct = pd.factorize(values)
        texts = [str(value) for value in distinct] + [None]
        position = pd.Index(self.categories).get_indexer(texts)[codes]
        unknown = (position < 0) & ~missing
        if not self.other and unknown.any():
            row = int(np.argmax(unknown))
            raise ValueError(
                f"column {self.column!r}, row {row}: {values.iloc[row]!r} is not one "
                f"of {', '.join(self.categories)}"
            )
        known = ~unknown & ~missing
        features = np.zeros((len(values), len(self.names())), np.float32)
        features[np.flatnonzero(known), position[known]] = 1.0
        if self.other:
            features[unknown, len(self.categories)] = 1.0
        if self.may_be_missing:
            features[missing, -1] = 1.0
        return features


@dataclasses.dataclass(frozen=True)
class Binned:
    """A number as one of a few public intervals, one-hot.

    For quantities whose effect is neither rising nor falling. The intervals are
    (-inf, e0], (e0, e1], ..., (ek, inf).

    Attributes:
      column: name of the table's column; no value may be missing.
      edges: ascending upper ends of all intervals but the last.

    Raises:
      ValueError: no edges, or edges that do not ascend.
    """

    column: str
    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.edges or not all(a < b for a, b in zip(self.edges, self.edges[1:])):
            raise ValueError(
                f"{self.column}: expected ascending edges, got {self.edges}"
            )

    def names(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return tuple(f"{self.column}<={edge:g}" for edge in self.edges) + (
            f"{self.column}>{self.edges[-1]:g}",
        )

    def encode(self, values: pd.Series) -> np.ndarray:
        """Features float32 `[n, len(names)]`.

        Raises:
          ValueError: a value is not a number, or missing.
        """
        numbers, missing = _numbers(self.column, values)
        _refuse_missing(self.column, missing)
        interval = np.searchsorted(self.edges, numbers, side="left")
        return np.eye(len(self.edges) + 1, dtype=np.float32)[interval]


Column = Union[Numeric, Categorical, Binned]


def _numbers(column: str, values: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Values as float64 `[n]`, and which are missing (NaN), bool `[n]`."""
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64)
    missing = np.isnan(numbers)
    wrong = np.flatnonzero(missing & values.notna().to_numpy())
    if wrong.size:
        raise ValueError(
            f"column {column!r}, row {wrong[0]}: expected a number, got "
            f"{values.iloc[wrong[0]]!r}"
        )
    return numbers, missing


def _refuse_missing(column: str, missing: np.ndarray) -> None:
    if missing.any():
        raise ValueError(
            f"column {column!r}, row {int(np.argmax(missing))}: the value is missing"
        )


def feature_names(columns: Sequence[Column]) -> tuple[str, ...]:
    """Names of all features, in the order of `encode`."""
    return tuple(name for column in columns for name in column.names())


def encode(table: pd.DataFrame, columns: Sequence[Column]) -> np.ndarray:
    """All features of a table, float32 `[rows, len(feature_names(columns))]`.

    Raises:
      ValueError: a column is absent, or a value cannot be encoded.
    """
    for column in columns:
        if column.column not in table:
            raise ValueError(
                f"the table has no column {column.column!r}; it has "
                f"{', '.join(map(str, table.columns))}"
            )
    features = np.empty((len(table), len(feature_names(columns))), np.float32)
    start = 0
    for column in columns:
        part = column.encode(table[column.column])
        features[:, start : start + part.shape[1]] = part
        start += part.shape[1]
    return features


def by_client(x: np.ndarray, y: np.ndarray, clients: pd.Series) -> dict[str, Examples]:
    """Rows grouped by client, in the order of the clients' names.

    Args:
      x: `[rows, ...]`.
      y: `[rows]`.
      clients: `[rows]`, whose row it is.

    Raises:
      ValueError: a row's client is missing.
    """
    codes, names = pd.factorize(clients, sort=True)
    if (codes < 0).any():
        raise ValueError(f"row {int(np.argmax(codes < 0))} has no client")
    rows = (np.flatnonzero(codes == code) for code in range(len(names)))
    return {
        str(name): {"x": x[mine], "y": y[mine].astype(np.int32)}
        for name, mine in zip(names, rows)
    }


def federate(
    clients: Mapping[str, Examples],
    *,
    held_out: Sequence[str],
    test_fraction: float,
    seed: int,
    batching: Batching,
) -> tuple[ClientData, ClientData, Union[ClientData, None]]:
    """Train, test and held-out client data with a stratified split per client.

    Args:
      clients: `{client id: examples}`.
      held_out: ids of clients that are kept out of training; may be empty.
      test_fraction: of each training client's examples, in [0, 1).
      seed: of the splits.
      batching: of the training data.

    Returns:
      The training splits, the test splits of the same clients, and the held-out
      clients with all their examples (None when none are held out).

    Raises:
      ValueError: a held-out id is unknown, all clients are held out, or the
        fraction is outside [0, 1).
    """
    unknown = [c for c in held_out if c not in clients]
    if unknown:
        raise ValueError(
            f"cannot hold out {unknown[0]!r}; the clients are {', '.join(clients)}"
        )
    train: dict[str, Examples] = {}
    test: dict[str, Examples] = {}
    for name, examples in clients.items():
        if name not in held_out:
            parts = stratified_split(
                examples["y"], test_fraction, seed=seed, client_id=name
            )
            for split, rows in zip((train, test), parts):
                split[name] = {key: examples[key][rows] for key in ("x", "y")}
    if not train:
        raise ValueError("no client is left to train on; hold fewer out")
    return (
        ClientData.from_arrays(train, batching),
        ClientData.from_arrays(test),
        ClientData.from_arrays({name: clients[name] for name in held_out})
        if held_out
        else None,
    )


def drawn_held_out(
    clients: Mapping[str, Examples], fraction: float, *, seed: int
) -> tuple[str, ...]:
    """The ids of a fraction of the clients; see `splits.held_out_clients`."""
    return held_out_clients(tuple(clients), fraction, seed=seed)[1]
