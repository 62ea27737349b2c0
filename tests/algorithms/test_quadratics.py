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


FED_AVG = algorithms.build_fed_avg(rounds.sgd(RATE))
CORRECTED = {
    "scaffold option 2": algorithms.build_scaffold(rounds.sgd(RATE), population=3),
    # Its correction is as of the server's model, and stable for small steps only.
    "scaffold option 1": algorithms.build_scaffold(
        rounds.sgd(RATE / 4), population=3, option=1
    ),
    "fed_dyn": algorithms.build_fed_dyn(rounds.sgd(RATE), population=3, alpha=0.5),
}


@pytest.fixture(scope="module")
def weights_after(task):
    """(algorithm, each round's clients) -> the last weights."""
    built = {}

    def run(algorithm, cohorts):
        if algorithm not in built:
            built[algorithm] = algorithm.build(
                task, max_cohort_size=3, client_weighting=processes.uniform()
            )
        drawn = [task.train.cohort(c, seed=0, round_number=1) for c in cohorts]
        return rounds.run(built[algorithm], drawn).weights()

    return run


def test_fed_avg_ends_elsewhere(weights_after):
    found = weights_after(FED_AVG, [NAMES] * 80)
    np.testing.assert_allclose(found, fixed_point_of_fed_avg(), atol=1e-4)
    assert np.linalg.norm(found - optimum()) > 0.2


@pytest.mark.parametrize("name", CORRECTED)
def test_corrected_algorithms_reach_the_optimum(weights_after, name):
    found = weights_after(CORRECTED[name], [NAMES] * 100)
    np.testing.assert_allclose(found, optimum(), atol=1e-4)


def test_two_clients_of_three_at_a_time(weights_after):
    generator = np.random.default_rng(0)
    cohorts = [
        tuple(np.delete(NAMES, absent)) for absent in generator.integers(3, size=150)
    ]
    for algorithm in CORRECTED.values():
        found = weights_after(algorithm, cohorts)
        np.testing.assert_allclose(found, optimum(), atol=1e-4)
    # It has no fixed point here, and follows its cohorts.
    found = weights_after(FED_AVG, cohorts)
    assert np.linalg.norm(found - optimum()) > 0.2
