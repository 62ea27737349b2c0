"""XLA's results for the real examples of a padded batch."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import runtime
from tfl_research.runtime import Mode

IMAGES = np.random.default_rng(0).normal(size=(4, 2, 3, 2)).astype(np.float32)


def variances(images, count):
    """Moving variances after a batch of so many images, with momentum and without."""
    old = np.array([1, 2], np.float32)
    of_batch = images[:count].reshape(-1, 2).var(axis=0, ddof=1)
    return [0.75 * old + 0.25 * of_batch, of_batch]


@pytest.fixture(scope="module")
def process():
    client_type = collections.OrderedDict(
        images=tff.TensorType(np.float32, [4, 2, 3, 2]), count=np.int32
    )

    @tff.tensorflow.computation(client_type)
    def work(client):
        real = client["images"][: client["count"]]
        found = []
        for factor, old in ((0.25, tf.constant([1.0, 2.0])), (1.0, tf.zeros([0]))):
            found.append(
                tf.raw_ops.FusedBatchNormV3(
                    x=real,
                    scale=tf.ones([2]),
                    offset=tf.zeros([2]),
                    mean=tf.zeros_like(old),
                    variance=old,
                    exponential_avg_factor=factor,
                ).batch_variance
            )
        return found

    @tff.federated_computation
    def initialize():
        return tff.federated_value(0, tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType(np.int32, tff.SERVER),
        tff.FederatedType(tff.to_type(client_type), tff.CLIENTS),
    )
    def next_round(state, clients):
        return state, tff.federated_sum(tff.federated_map(work, clients))

    return tff.templates.IterativeProcess(initialize, next_round)


@pytest.mark.parametrize("compiler", ["xla", "graph"])
@pytest.mark.parametrize("clients", ["folded", "separate"])
def test_variances_are_of_the_real_examples(process, clients, compiler):
    counts = [4, 1, 3]
    given = [collections.OrderedDict(images=IMAGES, count=np.int32(n)) for n in counts]
    with runtime.in_process(process, mode=Mode(clients, compiler)) as engine:
        _, found = engine.next(engine.initialize(), given)
    expected = [sum(parts) for parts in zip(*(variances(IMAGES, n) for n in counts))]
    np.testing.assert_allclose(list(found), expected, rtol=1e-5)
