"""Robust rules over updates that clients noised themselves."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow_federated as tff
from client_noise import DIMENSION, MODE, SHAPES, as_process, client, step, vectors

from tfl_research import privacy, runtime
from tfl_research.aggregators import (
    CoordinateMedian,
    StackingFactory,
    TrustedRootFactory,
    mean,
)

SETTINGS = {"l2_norm_clip": 2.0, "noise_multiplier": 1.5, "noise_seed": 2**100 + 9}


def ruled(rule, **changes):
    return privacy.local_gaussian_rule(rule=rule, **{**SETTINGS, **changes})


def two_rounds(aggregator, clients):
    """The aggregates of two rounds as vectors, and the second's measurements."""
    found = []
    with runtime.in_process(as_process(aggregator), mode=MODE) as engine:
        state = engine.initialize()
        for _ in range(2):
            state, (result, measured) = engine.next(state, clients)
            found.append(np.concatenate([np.ravel(part) for part in result]))
    return np.stack(found), measured


@pytest.fixture(scope="module")
def clients():
    # The last has no examples, the one before it sends what is not finite.
    rows = 3 * vectors(5)
    rows[3] = np.nan
    return [client(v, i, w) for i, (v, w) in enumerate(zip(rows, [1, 1, 1, 1, 0]))]


def test_noise_is_that_of_the_mechanism_with_a_mean(clients):
    found, _ = two_rounds(ruled(mean()), clients)
    plain = privacy.local_gaussian_aggregator(expected_cohort_size=5.0, **SETTINGS)
    expected, _ = two_rounds(plain, clients)
    # Equal weights: the client without examples is in the denominator too.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 0.1


def test_a_rule_of_what_each_client_sent(clients):
    rule = StackingFactory(CoordinateMedian(), capacity=5)
    found, measured = two_rounds(ruled(rule), clients)
    alone = privacy.local_gaussian_aggregator(expected_cohort_size=1.0, **SETTINGS)
    process = as_process(alone)
    sent = []
    with runtime.in_process(process, mode=MODE) as engine:
        start = engine.initialize()
        for one in clients:
            sent.append(step(engine, start, [one])[1])
    np.testing.assert_allclose(found[0], np.median(sent, axis=0), atol=1e-6)
    # Nobody is seen to be hostile or absent: all noised updates look alike.
    assert (measured["stacked"], measured["excluded"]) == (5, 0)
    assert found.shape == (2, DIMENSION)


def test_without_noise_it_is_the_rule_of_clipped_updates():
    rule = StackingFactory(CoordinateMedian(), capacity=3)
    rows = 3 * vectors(3, seed=4)
    aggregator = ruled(rule, noise_multiplier=0.0)
    found, _ = two_rounds(aggregator, [client(v, i) for i, v in enumerate(rows)])
    clipped = rows * np.minimum(1, 2 / np.linalg.norm(rows, axis=1))[:, None]
    np.testing.assert_allclose(found[0], np.median(clipped, axis=0), atol=1e-6)


def test_a_rule_that_takes_no_weights(clients):
    """TFF's plain sum, over as many clients, is the mean."""
    found, measured = two_rounds(ruled(tff.aggregators.SumFactory()), clients)
    expected, _ = two_rounds(ruled(mean()), clients)
    np.testing.assert_allclose(found / 5, expected, rtol=1e-5, atol=1e-6)
    assert np.asarray(measured["client_noise_stddev"]).tolist() == [3.0]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ruled(mean(), l2_norm_clip=0.0), "l2 norm clip must be positive"),
        (lambda: ruled(mean(), noise_multiplier=-1.0), "noise_multiplier"),
        (lambda: ruled(TrustedRootFactory(3, 2)), "needs the clients' role"),
        (
            lambda: ruled(mean()).create(
                tff.TensorType(np.float32, SHAPES[0]), tff.TensorType(np.float32)
            ),
            "seeds of their own",
        ),
    ],
)
def test_refuses(build, message):
    with pytest.raises(ValueError, match=message):
        build()
