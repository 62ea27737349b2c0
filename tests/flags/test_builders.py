"""Schedules against their formulas, and optimizers that do what the flags say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.flags import (
    AggregatorFlags,
    ClientOptimizerFlags,
    ServerOptimizerFlags,
    WeightingFlags,
    builders,
)


def _rates(rounds: int, **flags) -> list[float]:
    schedule = builders.learning_rate_schedule(ClientOptimizerFlags(**flags))
    return [float(schedule(tf.constant(t))) for t in range(rounds)]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, [2.0, 2.0, 2.0]),
        (
            {
                "learning_rate_schedule": "exponential",
                "learning_rate_decay": 0.25,
                "learning_rate_decay_rounds": 2,
            },
            [2.0, 1.0, 0.5, 0.25],
        ),
        (
            {
                "learning_rate_schedule": "step",
                "learning_rate_decay": 0.5,
                "learning_rate_decay_rounds": 2,
            },
            [2.0, 2.0, 1.0, 1.0, 0.5],
        ),
        (
            {"learning_rate_schedule": "inverse_sqrt"},
            [2.0, 2.0 / math.sqrt(2), 2.0 / math.sqrt(3), 1.0],
        ),
        (
            {"learning_rate_schedule": "cosine", "learning_rate_decay_rounds": 4},
            [2.0, 1.0 + math.sqrt(0.5), 1.0, 1.0 - math.sqrt(0.5), 0.0, 0.0],
        ),
        ({"learning_rate_warmup_rounds": 3}, [0.5, 1.0, 1.5, 2.0, 2.0]),
        (
            {
                "learning_rate_schedule": "step",
                "learning_rate_decay": 0.1,
                "learning_rate_decay_rounds": 1,
                "learning_rate_warmup_rounds": 1,
            },
            [1.0, 2.0, 0.2, 0.02],
        ),
    ],
)
def test_schedules(flags, expected):
    found = _rates(len(expected), learning_rate=2.0, **flags)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def _step(optimizer, gradient=2.0, steps=1) -> list[float]:
    """The weight, from 1, after each step."""
    state = optimizer.initialize(tf.TensorSpec([], tf.float32))
    weight, weights = tf.constant(1.0), []
    for _ in range(steps):
        state, weight = optimizer.next(state, weight, tf.constant(gradient))
        weights.append(float(weight))
    return weights


def test_server_sgd_with_momentum():
    optimizer = builders.server_optimizer(
        ServerOptimizerFlags("sgd", learning_rate=0.5, momentum=0.5)
    )
    # Velocities 2 and 0.5 * 2 + 2 = 3.
    assert _step(optimizer, steps=2) == pytest.approx([0.0, -1.5])


def test_server_adagrad_takes_its_preconditioner():
    optimizer = builders.server_optimizer(
        ServerOptimizerFlags(
            "adagrad", learning_rate=1.0, initial_preconditioner=5.0, epsilon=1e-9
        )
    )
    # 1 - 2 / sqrt(5 + 2^2).
    assert _step(optimizer) == pytest.approx([1 - 2 / 3], rel=1e-5)


def test_server_adam_takes_betas_and_epsilon():
    optimizer = builders.server_optimizer(
        ServerOptimizerFlags(
            "adam", learning_rate=0.1, beta_1=0.0, beta_2=0.0, epsilon=2.0
        )
    )
    # Without decay the moments are g and g^2: 1 - 0.1 * 2 / (2 + 2).
    assert _step(optimizer) == pytest.approx([0.95], rel=1e-5)


def test_server_yogi_moves_by_its_rate():
    optimizer = builders.server_optimizer(
        ServerOptimizerFlags(
            "yogi",
            learning_rate=0.1,
            beta_1=0.0,
            beta_2=0.0,
            epsilon=1e-9,
            initial_preconditioner=0.0,
        )
    )
    assert _step(optimizer) == pytest.approx([0.9], rel=1e-4)


def test_server_schedule_counts_rounds():
    optimizer = builders.server_optimizer(
        ServerOptimizerFlags(
            learning_rate=1.0,
            learning_rate_schedule="step",
            learning_rate_decay=0.5,
            learning_rate_decay_rounds=1,
        )
    )
    # Rates 1, 1/2, 1/4 on a gradient of 2.
    assert _step(optimizer, steps=3) == pytest.approx([-1.0, -2.0, -2.5])


def test_client_work_takes_every_flag():
    work = builders.client_work(
        ClientOptimizerFlags(
            gradient_clip=3.0,
            learning_rate=0.5,
            learning_rate_schedule="inverse_sqrt",
        ),
        proximal_strength=0.25,
    )
    assert work.steps.gradient_clip_norm == 3.0
    assert work.proximal_strength == 0.25
    assert float(work.steps.learning_rate_schedule(tf.constant(3))) == pytest.approx(
        0.25
    )
    assert _step(work.steps.optimizer) == pytest.approx([0.0])
    plain = builders.client_work(ClientOptimizerFlags())
    assert plain.steps.learning_rate_schedule is None


def test_client_weighting():
    weighting = builders.client_weighting(WeightingFlags("capped", 10))
    assert float(weighting.weight(tf.constant(5.0))) == 0.5
    assert builders.client_weighting(WeightingFlags("uniform")).kind == "uniform"


@pytest.mark.parametrize(
    "name", ["mean", "robust", "zeroing", "clipping", "compression"]
)
def test_aggregators_are_weighted_and_named_as_what_they_do(name):
    factory = builders.aggregator(AggregatorFlags(name))
    assert isinstance(factory, tff.aggregators.WeightedAggregationFactory)
    process = factory.create(
        tff.to_type([(np.float32, [3])]), tff.TensorType(np.float32)
    )
    measurements = str(process.next.type_signature.result.measurements)
    assert ("clipping" in measurements) == (name in ("robust", "clipping"))
    assert ("zeroing" in measurements) == (name in ("robust", "zeroing"))
