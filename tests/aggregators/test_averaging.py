"""TFF's means over cohorts in which nobody counts, and against TFF's own."""

import numpy as np
import pytest
import tensorflow_federated as tff

from tfl_research import aggregators
from tfl_research.processes.federated_process import size_in_bytes

VALUE = tff.TensorType(np.float32, [2])
WEIGHT = tff.TensorType(np.float32)


pytestmark = pytest.mark.usefixtures("on_a_worker")


def aggregate(factory, values, weights, rounds=1):
    process = factory.create(VALUE, WEIGHT)
    state = process.initialize()
    for _ in range(rounds):
        output = process.next(state, values, weights)
        state = output.state
    return np.asarray(output.result)


ALL = ("mean", "clipping", "zeroing", "robust", "compression")
VALUES = [np.array([1.0, 2.0], np.float32), np.array([3.0, -2.0], np.float32)]


def test_weighted_mean_by_hand():
    result = aggregate(aggregators.mean(), VALUES, [1.0, 3.0])
    np.testing.assert_allclose(result, [2.5, -1.0])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("values", "weights"), [([], []), (VALUES, [0.0, 0.0])], ids=["empty", "weightless"]
)
def test_nobody_counts(name, values, weights):
    result = aggregate(getattr(aggregators, name)(), values, weights)
    np.testing.assert_array_equal(result, [0.0, 0.0])


def test_robust_is_tffs_where_somebody_counts():
    ours, theirs = aggregators.robust(), tff.learning.robust_aggregator()
    far = [*VALUES, np.array([1e6, 1e6], np.float32)]
    for rounds in (1, 3):
        np.testing.assert_allclose(
            aggregate(ours, far, [1.0, 3.0, 2.0], rounds),
            aggregate(theirs, far, [1.0, 3.0, 2.0], rounds),
            rtol=1e-6,
        )


def test_zeroing_leaves_out_what_is_far_away():
    far = [*VALUES, np.array([1e6, 1e6], np.float32)]
    result = aggregate(aggregators.zeroing(), far, [1.0, 3.0, 4.0])
    # The far update counts as zero, its weight still counts.
    np.testing.assert_allclose(result, [10.0 / 8, -4.0 / 8], rtol=1e-6)


def test_clipping_bounds_an_update():
    far = [np.array([300.0, 400.0], np.float32)]
    # The first round clips to the initial estimate of 1.
    np.testing.assert_allclose(
        aggregate(aggregators.clipping(), far, [2.0]), [0.6, 0.8], rtol=1e-5
    )


def test_compression_says_what_tff_sends():
    factory = aggregators.compression()
    large = tff.TensorType(np.float32, [150, 140])
    sent = factory.message_type(tff.StructWithPythonType([large, VALUE], tuple))
    # 21,000 entries of 8 bits, of which TFF packs seven into two integers, with the
    # smallest and the largest; a small tensor as it is.
    assert size_in_bytes(sent) == 21_000 // 7 * 2 * 4 + 2 * 4 + 2 * 4
    assert size_in_bytes(factory.message_type(VALUE)) == 8
