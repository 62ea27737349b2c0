"""Heterogeneous quadratics: who reaches the optimum, and where FedAvg ends instead."""

from __future__ import annotations

import numpy as np
import pytest
import rounds

from tfl_research import algorithms, data, processes

STEPS, RATE = 8, 0.2
NAMES = ("flat", "steep", "tilted")


def quadratics():
    """Three clients whose losses have other curvatures and other optima."""
    generator = np.random.default_rng(4)
    found = {}
    for name, scales, optimum in (
        ("flat", (0.5, 1.0), (2.0, -1.0, 0.5)),
        ("steep", (2.0, 0.4), (-1.0, 2.0, -0.5)),
        ("tilted", (1.0, 1.5), (0.0, -2.0, 1.5)),
    ):
        x = generator.normal(size=(6, 2)) * scales
        found[name] = (x, np.column_stack([x, np.ones(6)]) @ np.array(optimum))
    return found


def curvature(x):
    """H of the mean of half the squared errors, the bias included."""
    design = np.column_stack([x, np.ones(len(x))])
    return design.T @ design / len(x), design


def optimum():
    """Minimiser of the clients' mean loss."""
    total, right = np.zeros((3, 3)), np.zeros(3)
    for x, y in quadratics().values():
        hessian, design = curvature(x)
        total += hessian
        right += design.T @ y / len(y)
    return np.linalg.solve(total, right)


def fixed_point_of_fed_avg():
    """Where sum_i (I - (I - rate H_i)^K) (w - w_i*) = 0."""
    total, right = np.zeros((3, 3)), np.zeros(3)
    for x, y in quadratics().values():
        hessian, design = curvature(x)
        own = np.linalg.solve(hessian, design.T @ y / len(y))
        progress = np.eye(3) - np.linalg.matrix_power(np.eye(3) - RATE * hessian, STEPS)
        total += progress
        right += progress @ own
    return np.linalg.solve(total, right)


@pytest.fixture(scope="module")
def task(make_linear_task):
    batching = data.Batching(batch_size=6, epochs=STEPS, shuffle=False)
    return make_linear_task(quadratics(), batching)


def final_weights(task, algorithm, num_rounds):
    process = algorithm.build(
        task, max_cohort_size=3, client_weighting=processes.uniform()
    )
    cohort = task.train.cohort(NAMES, seed=0, round_number=1)
    return rounds.run(process, [cohort] * num_rounds).weights()


def test_fed_avg_ends_elsewhere(task):
    found = final_weights(task, algorithms.fed_avg(rounds.sgd(RATE)), 80)
    np.testing.assert_allclose(found, fixed_point_of_fed_avg(), atol=1e-4)
    assert np.linalg.norm(found - optimum()) > 0.2


@pytest.mark.parametrize(
    "algorithm",
    [
        algorithms.scaffold(rounds.sgd(RATE), population=3),
        # Its correction is as of the server's model, and stable for small steps only.
        algorithms.scaffold(rounds.sgd(RATE / 4), population=3, option=1),
        algorithms.fed_dyn(rounds.sgd(RATE), population=3, alpha=0.5),
    ],
    ids=["scaffold option 2", "scaffold option 1", "fed_dyn"],
)
def test_corrected_algorithms_reach_the_optimum(task, algorithm):
    found = final_weights(task, algorithm, 250)
    np.testing.assert_allclose(found, optimum(), atol=1e-3)
