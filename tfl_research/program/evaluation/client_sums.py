"""Sums from which an evaluation is computed, and the batches that yield these sums."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# The clients' states, float32 `[clients, d]`, by their ids.
StateRows = Callable[[Sequence[str]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class ClientSums:
    """The numbers from which metrics are computed, by client.

    Attributes:
      client_ids: the clients of the split.
      counts: int64 `[clients]`, numbers of evaluated examples.
      sums: the objective's sums, float64 `[clients, ...]`, by name.
      of_examples: metrics of each client's examples (`Metric.of_examples`), float64
        `[clients]`, by name.
      of_all_examples: the same metrics over the examples of all clients.
    """

    client_ids: tuple[str, ...]
    counts: np.ndarray
    sums: Mapping[str, np.ndarray]
    of_examples: Mapping[str, np.ndarray]
    of_all_examples: Mapping[str, float]


def starts(counts: np.ndarray, size: int, of_each: bool) -> Iterator[tuple[int, int]]:
    """Divides examples into batches; returns each batch's first and end example.

    Args:
      counts: int64 `[clients]`, number of examples of each client, at least 1.
      size: largest number of examples in a batch.
      of_each: whether a batch has the examples of one client only.
    """
    groups: list[int] = counts.tolist() if of_each else [int(counts.sum())]
    begin = 0
    for count in groups:
        end = begin + count
        for start in range(begin, end, size):
            yield start, end
        begin = end


def rows_of(arrays: Any, start: int, end: int) -> Any:
    """Returns the rows from `start` to before `end` of each array of a structure."""
    return tf.nest.map_structure(
        lambda a: None if a is None else np.asarray(a)[start:end], arrays
    )


def joined(parts: Sequence[Any]) -> Any:
    """Concatenates arrays or structures of arrays; returns None without arrays."""
    if not parts or parts[0] is None:
        return None
    return tf.nest.map_structure(lambda *a: np.concatenate(a), *parts)
