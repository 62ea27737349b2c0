"""Counts of examples and labels by client; `divergence` compares them."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfl_research.data.arrays import structures
from tfl_research.data.client_data import ClientData


@dataclasses.dataclass(frozen=True)
class LabelStatistics:
    """Counts by client, in the order of the client data.

    Attributes:
      examples: int64 `[clients]`, number of examples.
      labels: int64 `[clients, classes]`, number of each label, without the padding of
        sequences.
    """

    examples: np.ndarray
    labels: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """The label distribution over all clients, float64 `[classes]`, NaN if none."""
        totals = self.labels.sum(axis=0)
        with np.errstate(invalid="ignore"):
            return totals / totals.sum()


def example_counts(data: ClientData) -> np.ndarray:
    """Counts each client's examples, int64 `[clients]`, for labels of any form."""
    counts = [data.num_examples(client_id) for client_id in data.client_ids]
    return np.asarray(counts, np.int64)


def label_statistics(data: ClientData, *, pad_id: int = 0) -> LabelStatistics:
    """Counts examples and labels, loading one client after another.

    Args:
      data: labels are non-negative integers, `[n]` or (sequences) `[n, length]`.
      pad_id: the label that pads sequences and is not counted there. In labels that are
        no sequences it is counted.

    Raises:
      ValueError: there are no labels, or several arrays of labels.
    """
    sequences = len(structures.single(data.specs, "y", "a count of labels").shape) > 0
    examples = np.zeros(len(data), np.int64)
    counts = []
    for row, (_, client) in enumerate(data.items()):
        examples[row] = structures.num_examples(client)
        labels = client["y"].reshape(-1)
        counts.append(np.bincount(labels[labels != pad_id] if sequences else labels))
    table = np.zeros((len(data), max((len(c) for c in counts), default=0)), np.int64)
    for row, count in enumerate(counts):
        table[row, : len(count)] = count
    return LabelStatistics(examples, table)
