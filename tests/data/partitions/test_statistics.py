"""Label statistics by hand."""

from __future__ import annotations

import numpy as np

from tfl_research.data import ClientData
from tfl_research.data.partitions import statistics


def _data(*labels):
    return ClientData.from_arrays(
        {
            f"c{i}": {
                "x": np.zeros((len(y), 1), np.float32),
                "y": np.array(y, np.int32),
            }
            for i, y in enumerate(labels)
        }
    )


def test_counts_and_shares():
    counted = statistics.label_statistics(_data([0, 0, 2], [2], []))
    assert counted.examples.tolist() == [3, 1, 0]
    assert counted.labels.tolist() == [[2, 0, 1], [0, 0, 1], [0, 0, 0]]
    assert counted.shares.tolist() == [0.5, 0.0, 0.5]


def test_padding_of_sequences_is_not_counted():
    counted = statistics.label_statistics(_data([[1, 2, 0], [2, 0, 0]]))
    assert counted.examples.tolist() == [2]
    assert counted.labels.tolist() == [[0, 1, 2]]
