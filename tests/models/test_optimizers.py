"""Optimizers as settings: refusals, schedules by their formulas, and what is built."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tfl_research.errors import SettingError
from tfl_research.models import (
    SGD,
    Adagrad,
    Adam,
    ClientOptimizer,
    Optimizer,
    ServerOptimizer,
    Yogi,
)


def refused(build, *fragments: str) -> None:
    with pytest.raises(SettingError) as raised:
        build()
    message = raised.value.for_command_line
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message


class TestSettings:
    def test_names_carry_the_side(self):
        assert ClientOptimizer.flag("optimizer") == "--client_optimizer"
        assert ServerOptimizer.flag("learning_rate") == "--server_learning_rate"
        assert ClientOptimizer().learning_rate == 0.1
        assert ServerOptimizer().learning_rate == 1.0

    def test_by_name(self):
        assert SGD(0.5) == Optimizer("sgd", 0.5)
        assert SGD(0.5, 0.9, learning_rate_warmup_rounds=2) == Optimizer(
            "sgd", 0.5, momentum=0.9, learning_rate_warmup_rounds=2
        )
        assert Adam(0.5, beta_1=0.2) == Optimizer("adam", 0.5, beta_1=0.2)
        assert Yogi(0.5) == Optimizer("yogi", 0.5)
        assert Adagrad(0.5, epsilon=0.1) == Optimizer("adagrad", 0.5, epsilon=0.1)

    @pytest.mark.parametrize(
        ("optimizer", "field"),
        [
            ("sgd", "beta_1"),
            ("sgd", "epsilon"),
            ("adam", "momentum"),
            ("adam", "initial_preconditioner"),
            ("yogi", "momentum"),
            ("adagrad", "beta_2"),
        ],
    )
    def test_a_hyperparameter_of_another_optimizer_is_refused(self, optimizer, field):
        refused(
            lambda: ServerOptimizer(optimizer, **{field: 0.5}),
            f"--server_{field}=0.5: {optimizer} has no such hyperparameter; leave it "
            "out or choose another --server_optimizer",
        )

    def test_schedules_need_their_parameters_and_no_others(self):
        refused(
            lambda: ClientOptimizer(learning_rate_schedule="cosine"),
            "--client_learning_rate_schedule=cosine: needs "
            "--client_learning_rate_decay_rounds too",
        )
        refused(
            lambda: ClientOptimizer(
                learning_rate_schedule="step", learning_rate_decay_rounds=2
            ),
            "--client_learning_rate_schedule=step: needs --client_learning_rate_decay "
            "too",
        )
        refused(
            lambda: ClientOptimizer(learning_rate_decay=0.5),
            "--client_learning_rate_decay=0.5: the constant schedule has no such "
            "parameter; leave it out or choose another --client_learning_rate_schedule",
        )
        refused(
            lambda: ClientOptimizer(
                learning_rate_schedule="inverse_sqrt", learning_rate_decay_rounds=3
            ),
            "--client_learning_rate_decay_rounds=3: the inverse_sqrt schedule has no",
        )

    def test_scheduled(self):
        assert not ClientOptimizer().scheduled
        assert ClientOptimizer(learning_rate_warmup_rounds=1).scheduled
        assert ClientOptimizer(learning_rate_schedule="inverse_sqrt").scheduled

    def test_a_negative_rate_is_refused(self):
        refused(
            lambda: ClientOptimizer(learning_rate=-0.1),
            "--client_learning_rate=-0.1: must be a number, at least 0",
        )


@pytest.mark.parametrize(
    ("given", "expected"),
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
def test_schedules(given, expected):
    import tensorflow as tf

    schedule = ClientOptimizer(learning_rate=2.0, **given).schedule()
    found = [float(schedule(tf.constant(t))) for t in range(len(expected))]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def steps(optimizer, gradient=2.0, count=1) -> list[float]:
    """The weight, from 1, after each step."""
    import tensorflow as tf

    state = optimizer.initialize(tf.TensorSpec([], tf.float32))
    weight, weights = tf.constant(1.0), []
    for _ in range(count):
        state, weight = optimizer.next(state, weight, tf.constant(gradient))
        weights.append(float(weight))
    return weights


class TestBuilt:
    def test_sgd_with_momentum(self):
        built = SGD(0.5, momentum=0.5).build()
        # Velocities 2 and 0.5 * 2 + 2 = 3.
        assert steps(built, count=2) == pytest.approx([0.0, -1.5])

    def test_adagrad_takes_its_preconditioner(self):
        built = Adagrad(1.0, initial_preconditioner=5.0, epsilon=1e-9).build()
        # 1 - 2 / sqrt(5 + 2^2).
        assert steps(built) == pytest.approx([1 - 2 / 3], rel=1e-5)

    def test_adagrad_adds_epsilon_before_the_root(self):
        """Reddi et al. 2020 and Keras add it after: 1 - 2 / (3 + 7) = 0.8."""
        built = Adagrad(1.0, initial_preconditioner=5.0, epsilon=7.0).build()
        assert steps(built) == pytest.approx([1 - 2 / (5 + 4 + 7) ** 0.5], rel=1e-5)
        # Without a second moment the paper's 7 is the root of 49 here.
        built = Adagrad(1.0, initial_preconditioner=0.0, epsilon=49.0).build()
        assert steps(built, gradient=1e-4) == pytest.approx([1 - 1e-4 / 7])

    def test_adam_and_yogi_correct_the_bias_of_their_moments(self):
        """As Keras: the rate times sqrt(1 - 0.5) / (1 - 0.75) in the first step."""
        arguments = {"beta_1": 0.75, "beta_2": 0.5, "epsilon": 1.0}
        correction = 0.5**0.5 / 0.25
        # m = 0.25 * 2, v = 0.5 * 4; with Algorithm 2's start of 1, v = 0.5 + 2.
        expected = 1 - 0.1 * correction * 0.5 / (2**0.5 + 1)
        assert steps(Adam(0.1, **arguments).build()) == pytest.approx([expected])
        # v = 1 + 0.5 * 4, as 4 is above 1.
        yogi = Yogi(0.1, **arguments, initial_preconditioner=1.0).build()
        expected = 1 - 0.1 * correction * 0.5 / (3**0.5 + 1)
        assert steps(yogi) == pytest.approx([expected])

    def test_adam_takes_betas_and_epsilon(self):
        built = Adam(0.1, beta_1=0.0, beta_2=0.0, epsilon=2.0).build()
        # Without decay the moments are g and g^2: 1 - 0.1 * 2 / (2 + 2).
        assert steps(built) == pytest.approx([0.95], rel=1e-5)

    def test_yogi_moves_by_its_rate(self):
        built = Yogi(
            0.1, beta_1=0.0, beta_2=0.0, epsilon=1e-9, initial_preconditioner=0.0
        ).build()
        assert steps(built) == pytest.approx([0.9], rel=1e-4)

    def test_a_schedule_counts_rounds(self):
        scheduled = SGD(
            1.0,
            learning_rate_schedule="step",
            learning_rate_decay=0.5,
            learning_rate_decay_rounds=1,
        )
        rates = scheduled.schedule()
        assert [float(rates(t)) for t in range(3)] == [1.0, 0.5, 0.25]
        # The optimizer itself has no schedule.
        assert steps(scheduled.build(), count=2) == pytest.approx([-1.0, -3.0])
