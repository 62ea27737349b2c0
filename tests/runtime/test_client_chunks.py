"""Chunks of clients' values that a caller gives as a list."""

import numpy as np
import pytest
import tensorflow_federated as tff

from tfl_research.runtime.rounds.client_chunks import chunks_of_values

NUMBERS = tff.TensorType(np.float32, [None])


def made(values, parallel, chunk_size=None):
    return list(
        chunks_of_values(values, NUMBERS, chunk_size=chunk_size, parallel=parallel)
    )


@pytest.mark.parametrize(
    ("clients", "parallel", "counts"),
    [
        (0, 2, []),
        (1, 4, [1]),
        (10, 1, [10]),
        (10, 2, [5, 5]),
        (10, 4, [3, 3, 3, 1]),
        (120, 2, [50, 50, 20]),
    ],
)
def test_each_core_has_a_chunk(clients, parallel, counts):
    values = [np.full(2, i, np.float32) for i in range(clients)]
    found = made(values, parallel)
    assert [chunk.count for chunk in found] == counts
    real = [chunk.leaves[0][: chunk.count] for chunk in found]
    numbers = np.concatenate([np.zeros([0, 2]), *real])
    np.testing.assert_array_equal(numbers[:, 0], np.arange(clients))
    names = [name for chunk in found for name in chunk.names]
    assert names == [f"client {i} of the cohort" for i in range(clients)]


def test_a_given_size_counts():
    values = [np.zeros(2, np.float32)] * 7
    assert [chunk.count for chunk in made(values, 2, chunk_size=3)] == [3, 3, 1]


def test_neighbours_of_one_shape_share_a_chunk():
    values = [np.zeros(size, np.float32) for size in (2, 2, 3, 2, 2, 2)]
    found = made(values, 2)
    assert [(c.count, c.leaves[0].shape[1]) for c in found] == [(2, 2), (1, 3), (3, 2)]
